// Convolutions of 3x3 and padding 1 by Winograd's algorithm (Lavin and Gray 2016).
//
// Of stride 1: F(4x4, 3x3). A tile of 6x6 pixels is transformed into 36 points; at each point the
// channels are mixed by a matrix product; the 36 results are transformed back into 4x4 pixels. That
// is 36 products where the definition takes 144. Of stride 2: the pixels of odd and of even rows
// and columns are four images, of which the convolution is the sum of four, of 2x2, 2x1, 1x2 and
// one weight: F(4x4, 2x2), 81 products at 25 points. In bfloat16, whose rounding larger tiles would
// multiply: F(2x2, 3x3), 16 products for 36, and F(2x2, 2x2), 25 for 36.
//
// A block of tiles goes through all three stages at once, so that what lies between them stays in
// the cache of one core. What a network does to the result at once is done while it is in
// registers, and not in a pass over memory: forward bias, residual, ReLU and the next
// normalisation, backward the gradients of those before the convolution.

#pragma once

#include "after.h"
#include "kept.h"
#include "kinds.h"
#include "product.h"

#include <omp.h>

#include <algorithm>
#include <vector>

namespace {

// What a block takes of the second-level cache, in bytes, and how many of weights this holds beside.
constexpr long CACHE = 300000, HELD = 1 << 20;

// Points of a tile, side by side, to those of its pixels that are inside the image.
template <class Kind, int WIDTH, class Number>
void gather(const Shape &s, const Grid &g, const float *m, const After<Number> after,
            const After<Number> &apart, const Place &at, Number *y, int part, long first) {
    constexpr int SIDE = Kind::SIDE, TILE = Kind::TILE, STEP = Kind::STEP;
    const long height = STEP == 1 ? g.height : s.height, width = STEP == 1 ? g.width : s.width;
    const long top = STEP * at.top + Kind::row(part), left = STEP * at.left + Kind::column(part);
    const long pixel = ((at.image * height + top) * width + left) * s.outputs;
    const long right = STEP * s.outputs, below = width * right;
    // Beyond the end of a line the tiles of the next ones follow.
    const bool ends = left + AHEAD * TILE * STEP >= width;
    const long soon = pixel + AHEAD * TILE * right + ends * (STEP * TILE - 1) * width * s.outputs;
    for (const Number *array : {after.residual, after.cut, after.slope, after.more})
        for (int i = 0; array && i < TILE; i++)
            for (int j = 0; j < TILE; j++)
                fetch(array + soon + i * below + j * right + first, WIDTH);
    for (int i = 0; after.mask && i < TILE; i++)
        __builtin_prefetch(after.mask + (soon + i * below + first) / LANES);
    const bool whole = top + STEP * (TILE - 1) < height && left + STEP * (TILE - 1) < width;
    for (int k = 0; k < WIDTH; k += LANES) {
        Vector half[TILE * SIDE], d[SIDE], out[TILE * TILE];
#pragma GCC unroll 6
        for (int j = 0; j < SIDE; j++) {
#pragma GCC unroll 6
            for (int i = 0; i < SIDE; i++) {
                const int p = SIDE * i + j;
                d[i] = Kind::has(part, p) ? load(m + p * WIDTH + k) : Vector{};
            }
            Transform<SIDE>::transform_points(d, half + j, SIDE);
        }
#pragma GCC unroll 4
        for (int i = 0; i < TILE; i++)
            Transform<SIDE>::transform_points(half + SIDE * i, out + TILE * i, 1);
        if (__builtin_expect(after.silu, 0)) {
            // Of a larger tile row by row.
            constexpr int EACH = 4;
            for (int t = 0; t < TILE * TILE; t += EACH) {
                long pixels[EACH];
                unsigned valid = 0;
                for (int e = 0; e < EACH; e++) {
                    const int i = (t + e) / TILE, j = (t + e) % TILE;
                    pixels[e] = pixel + i * below + j * right;
                    if (whole || (top + STEP * i < height && left + STEP * j < width))
                        valid |= 1u << e;
                }
                if (valid) apart.template some<EACH>(out + t, y, pixels, first + k, valid);
            }
            continue;
        }
#pragma GCC unroll 4
        for (int i = 0; i < TILE; i++)
#pragma GCC unroll 4
            for (int j = 0; j < TILE; j++)
                if (whole || (top + STEP * i < height && left + STEP * j < width))
                    after(out[TILE * i + j], y, pixel + i * below + j * right, first + k);
    }
}

// How far the results of two tiles lie apart, of so many outputs: a piece more than they are, so
// that they do not compete for the same lines of the cache.
template <class Kind>
constexpr long apart(long width) {
    return Kind::SIDE * Kind::SIDE * width + LANES;
}

// m (ROWS, VECTORS * LANES) = v (ROWS, inputs) u (inputs, VECTORS * LANES), sums in registers. The
// rows of a piece of inputs lie side by side; `depth` times as many inputs as an image has are at
// this point. With each piece so many numbers are asked for of those that are needed `soon`.
template <class Kind, int VECTORS, int ROWS, class Number>
inline void product(const Number *v, const Number *u, float *m, int depth, long pieces,
                    const Number *soon, long asked) {
    Vector sum[ROWS][VECTORS] = {};
    for (int d = 0; d < depth; d++)
        for (long piece = 0; piece < pieces; piece++, u += LANES * VECTORS * LANES) {
            fetch(soon, asked);
            soon += asked;
            add(sum, v + (piece * Kind::TOTAL + d) * ROWS * LANES, u);
        }
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int k = 0; k < VECTORS; k++)
            store(m + r * apart<Kind>(VECTORS * LANES) + k * LANES, sum[r][k]);
}

// Whether the second-level cache holds the weights, all of which each block reads.
template <class Kind, class Number>
bool held(const Shape &s) {
    return long(sizeof(Number)) * Kind::WEIGHTS * s.inputs * s.outputs <= HELD;
}

// How many tiles a block has. Weights that the cache does not hold are read for more tiles at once.
template <class Kind, class Number>
long block_rows(const Shape &s, long tiles, long panel) {
    const long size = sizeof(Number);
    const long least = DOZEN * (held<Kind, Number>(s) ? 1 : 4);
    const long taken = size * Kind::TOTAL * s.inputs + 4 * Kind::SIDE * Kind::SIDE * panel;
    const long fit = CACHE / taken / DOZEN * DOZEN;
    const long threads = omp_get_max_threads();
    const long share = ((tiles + threads - 1) / threads + DOZEN - 1) / DOZEN * DOZEN;
    return std::min(std::max(fit, least), share);
}

template <class Kind, int VECTORS, int ROWS, class Number>
void convolve(const Shape &s, const Number *x, const Number *u, Number *y,
              const After<Number> &after) {
    constexpr int WIDTH = VECTORS * LANES, POINTS = Kind::SIDE * Kind::SIDE;
    constexpr long NEXT = apart<Kind>(WIDTH);
    const long pieces = s.inputs / LANES, next = Kind::TOTAL * s.inputs;
    static_assert(DOZEN % ROWS == 0, "a block must be whole for every product");
    const Grid g = Kind::grid(s);
    const long tiles = g.tiles();
    if (!tiles) return;
    const long rows = block_rows<Kind, Number>(s, tiles, WIDTH);
    const long blocks = (tiles + rows - 1) / rows;
    // Weights that have to come from farther away are asked for in the product of the point before,
    // piece by piece of its inputs and rows.
    const long groups = (rows + ROWS - 1) / ROWS;
    const long asked = held<Kind, Number>(s) ? 0 : (LANES * WIDTH + groups - 1) / groups;
    const std::vector<Number> zeros(s.inputs);
#pragma omp parallel
    {
        // They are kept from call to call; rows that no tile fills hold what was there before.
        static thread_local Kept<Number> kept_v;
        static thread_local Kept<float> kept_m;
        Number *const v = kept_v.get(rows * next);
        float *const m = kept_m.get(rows * NEXT);
        const After<Number> apart = after;
#pragma omp for schedule(dynamic)
        for (long block = 0; block < blocks; block++) {
            const long first = block * rows, count = std::min(rows, tiles - first);
            Place at(g, first);
            for (long t = 0; t < count; t++, at.go_on(g)) {
                Number *to = v + t / ROWS * ROWS * next + t % ROWS * LANES;
                Kind::spread(s, g, x, zeros.data(), at, [=](int image, long c, Vector value) {
                    store(to + (c * Kind::TOTAL + image * LANES) * ROWS, value);
                });
            }
            const Number *weights = u;
            for (int part = 0; part < Kind::PARTS; part++)
                for (long k = 0; k < s.outputs; k += WIDTH) {
                    for (int p = 0; p < POINTS; p++) {
                        if (!Kind::has(part, p)) continue;
                        const Number *from = v + Kind::before(p) * ROWS * LANES;
                        const Number *soon = weights + Kind::depth(p) * s.inputs * WIDTH;
                        for (long t = 0; t < count; t += ROWS)
                            product<Kind, VECTORS, ROWS>(
                                from + t * next, weights, m + t * NEXT + p * WIDTH, Kind::depth(p),
                                pieces, soon + t / ROWS * Kind::depth(p) * pieces * asked, asked);
                        weights = soon;
                    }
                    at = Place(g, first);
                    for (long t = 0; t < count; t++, at.go_on(g))
                        gather<Kind, WIDTH>(s, g, m + t * NEXT, after, apart, at, y, part, k);
                }
        }
    }
}

}  // namespace
