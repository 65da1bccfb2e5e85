// The gradient by the weights, at Winograd's points.
//
// At each point it is the sum over the tiles of what their pixels are there, times what the
// gradients by their results are: as few products as forward. The sums are of the same blocks of
// tiles in the same order whatever the number of threads.

#pragma once

#include "kept.h"
#include "kinds.h"
#include "product.h"

#include <algorithm>
#include <vector>

namespace {

// Tiles of a block: each block reads and writes the sums at all points.
constexpr long WGRAD_TILES = 96;

// Numbers of the tiles of a block at a point lie in chunks of as many channels as a vector has; the
// points a piece more apart, so that they do not compete for the same lines of the cache.
constexpr long chunk(long tiles) { return tiles * LANES; }
constexpr long point_apart(long tiles, long channels) { return tiles * channels + LANES; }

// The gradients by the results of a tile to points, channel by channel.
template <class Kind, class Number, class Put>
inline void spread_gradients(const Grid &g, const Number *y, const Number *zeros, const Place &at,
                             long channels, const Put &put) {
    constexpr int SIDE = Kind::SIDE, TILE = Kind::TILE;
    const Number *from[TILE][TILE];
    for (int i = 0; i < TILE; i++)
        for (int j = 0; j < TILE; j++)
            from[i][j] = pixel(y, zeros, g, at.image, at.top + i, at.left + j, channels);
    for (long k = 0; k < channels; k += LANES) {
        Vector half[SIDE * TILE], e[TILE], out[SIDE];
#pragma GCC unroll 4
        for (int j = 0; j < TILE; j++) {
#pragma GCC unroll 4
            for (int i = 0; i < TILE; i++) e[i] = load(from[i][j] + k);
            Transform<SIDE>::transform_gradients(e, half + j, TILE);
        }
#pragma GCC unroll 6
        for (int i = 0; i < SIDE; i++) {
            Transform<SIDE>::transform_gradients(half + TILE * i, out, 1);
#pragma GCC unroll 6
            for (int j = 0; j < SIDE; j++) put(SIDE * i + j, k, out[j]);
        }
    }
}

// Add to `sum` (inputs, outputs) or, with `begin`, let it be the product of v (inputs, tiles) and w
// (tiles, VECTORS * LANES), ROWS inputs at a time.
template <int VECTORS>
void add_tiles(const float *v, const float *w, float *sum, long count, long tiles, long inputs,
               long outputs, bool begin) {
    constexpr int ROWS = std::min(8, (LANES == 16 ? 16 : 8) / VECTORS);
    static_assert(LANES % ROWS == 0, "a chunk of inputs must be whole");
    for (long c = 0; c < inputs; c += ROWS, sum += ROWS * outputs) {
        Vector all[ROWS][VECTORS];
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
            for (int k = 0; k < VECTORS; k++)
                all[r][k] = begin ? Vector{} : load(sum + r * outputs + k * LANES);
        const float *left = v + c / LANES * chunk(tiles) + c % LANES, *right = w;
        for (long t = 0; t < count; t++, left += LANES, right += LANES) {
            Vector row[VECTORS];
#pragma GCC unroll 4
            for (int k = 0; k < VECTORS; k++) row[k] = load(right + k * chunk(tiles));
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
                for (int k = 0; k < VECTORS; k++) all[r][k] += left[r] * row[k];
        }
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
            for (int k = 0; k < VECTORS; k++) store(sum + r * outputs + k * LANES, all[r][k]);
    }
}

template <class Kind, class Number>
void wgrad(const Shape &s, const Number *x, const Number *y, float *u) {
    constexpr int POINTS = Kind::SIDE * Kind::SIDE;
    const Grid g = Kind::grid(s);
    const long all = g.tiles(), tiles = std::min(WGRAD_TILES, all);
    const long width = vectors(s.outputs) * LANES;
    const long next_v = point_apart(tiles, s.inputs), next_w = point_apart(tiles, s.outputs);
    // What an image has at each point, one after the other, and the point that this belongs to.
    int point[Kind::TOTAL];
    for (int p = 0; p < POINTS; p++)
        for (int d = 0; d < Kind::depth(p); d++) point[Kind::before(p) + d] = p;
    if (!all) std::fill(u, u + Kind::TOTAL * s.inputs * s.outputs, 0.f);
    const std::vector<Number> zeros(std::max(s.inputs, s.outputs));
    // They are kept from call to call.
    static thread_local Kept<float> kept_v, kept_w;
    float *const v = kept_v.get(Kind::TOTAL * next_v), *const w = kept_w.get(POINTS * next_w);
#pragma omp parallel
    for (long first = 0; first < all; first += tiles) {
        const long count = std::min(tiles, all - first);
#pragma omp for
        for (long t = 0; t < count; t++) {
            const Place at(g, first + t);
            const auto put = [=](float *to, long next) {
                return [=](int image, long c, Vector value) {
                    store(to + image * next + c * tiles + t * LANES, value);
                };
            };
            Kind::spread(s, g, x, zeros.data(), at, put(v, next_v));
            spread_gradients<Kind>(g, y, zeros.data(), at, s.outputs, put(w, next_w));
        }
#pragma omp for collapse(2)
        for (int image = 0; image < Kind::TOTAL; image++)
            for (long k = 0; k < s.outputs; k += width)
                with_panel(s.outputs, [&](auto panel) {
                    add_tiles<panel.VECTORS>(v + image * next_v,
                                             w + point[image] * next_w + k * tiles,
                                             u + image * s.inputs * s.outputs + k, count, tiles,
                                             s.inputs, s.outputs, first == 0);
                });
    }
}

}  // namespace
