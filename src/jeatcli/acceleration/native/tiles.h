// The tiles of images, and how Winograd's algorithm takes their pixels to points and back.

#pragma once

#include "vectors.h"

namespace {

// The places that tiles of so many pixels each way cover.
struct Grid {
    long n, height, width, tile;
    long down() const { return (height + tile - 1) / tile; }
    long across() const { return (width + tile - 1) / tile; }
    long tiles() const { return n * down() * across(); }
};

// How many tiles ahead pixels are asked for: those of a tile lie in as many places as it has rows,
// too many for the processor to guess the next ones.
constexpr int AHEAD = 3;

// Ask for so many numbers, that they are in the cache when they are needed; past the end, in vain.
template <class Number>
inline void fetch(const Number *from, long count) {
    for (long c = 0; c < count; c += 64 / sizeof(Number)) __builtin_prefetch(from + c);
}

// Where a tile begins.
struct Place {
    long image, top, left;
    Place(const Grid &g, long tile)
        : image(tile / (g.down() * g.across())),
          top(tile / g.across() % g.down() * g.tile),
          left(tile % g.across() * g.tile) {}

    // Go on to the next tile.
    void go_on(const Grid &g) {
        if ((left += g.tile) < g.width) return;
        left = 0;
        if ((top += g.tile) < g.height) return;
        top = 0;
        image++;
    }
};

// Pixels in a row to as many points, points to pixels, and gradients by these pixels to ones by the
// points, by the number of points.
template <int SIDE>
struct Transform;

template <>
struct Transform<4> {
    static inline void transform_pixels(const Vector *d, Vector *out, int stride) {
        out[0] = d[0] - d[2];
        out[stride] = d[1] + d[2];
        out[2 * stride] = d[2] - d[1];
        out[3 * stride] = d[3] - d[1];
    }
    static inline void transform_points(const Vector *m, Vector *out, int stride) {
        out[0] = m[0] + m[1] + m[2];
        out[stride] = m[1] - m[2] + m[3];
    }
};

template <>
struct Transform<6> {
    static inline void transform_pixels(const Vector *d, Vector *out, int stride) {
        Vector even = d[4] - 4 * d[2], odd = d[3] - 4 * d[1];
        Vector wide = d[4] - d[2], twice = 2 * (d[3] - d[1]);
        out[0] = 4 * d[0] - 5 * d[2] + d[4];
        out[stride] = even + odd;
        out[2 * stride] = even - odd;
        out[3 * stride] = wide + twice;
        out[4 * stride] = wide - twice;
        out[5 * stride] = 4 * d[1] - 5 * d[3] + d[5];
    }
    static inline void transform_points(const Vector *m, Vector *out, int stride) {
        Vector sum = m[1] + m[2], difference = m[1] - m[2];
        Vector sum2 = m[3] + m[4], difference2 = m[3] - m[4];
        out[0] = m[0] + sum + sum2;
        out[stride] = difference + 2 * difference2;
        out[2 * stride] = sum + 4 * sum2;
        out[3 * stride] = difference + 8 * difference2 + m[5];
    }
    static inline void transform_gradients(const Vector *e, Vector *out, int stride) {
        Vector even = e[0] + e[2], odd = e[1] + e[3];
        Vector even2 = e[0] + 4 * e[2], odd2 = 2 * e[1] + 8 * e[3];
        out[0] = e[0];
        out[stride] = even + odd;
        out[2 * stride] = even - odd;
        out[3 * stride] = even2 + odd2;
        out[4 * stride] = even2 - odd2;
        out[5 * stride] = e[3];
    }
};

template <>
struct Transform<5> {
    static inline void transform_pixels(const Vector *d, Vector *out, int stride) {
        Vector rise = d[3] - d[1];
        out[0] = 2 * (d[0] - d[2]) + rise;
        out[stride] = rise - d[1] - d[2];
        out[2 * stride] = rise + 3 * (d[1] - d[2]);
        out[3 * stride] = rise;
        out[4 * stride] = d[4] - d[2] - 2 * rise;
    }
    static inline void transform_points(const Vector *m, Vector *out, int stride) {
        Vector sum = m[1] + m[2], difference = m[1] - m[2];
        out[0] = m[0] + sum + m[3];
        out[stride] = difference + 2 * m[3];
        out[2 * stride] = sum + 4 * m[3];
        out[3 * stride] = difference + 8 * m[3] + m[4];
    }
    static inline void transform_gradients(const Vector *e, Vector *out, int stride) {
        Vector even = e[0] + e[2], odd = e[1] + e[3];
        out[0] = e[0];
        out[stride] = even + odd;
        out[2 * stride] = even - odd;
        out[3 * stride] = e[0] + 4 * e[2] + (2 * e[1] + 8 * e[3]);
        out[4 * stride] = e[3];
    }
};

template <>
struct Transform<3> {
    static inline void transform_pixels(const Vector *d, Vector *out, int stride) {
        out[0] = d[0] - d[1];
        out[stride] = d[1];
        out[2 * stride] = d[2] - d[1];
    }
    static inline void transform_points(const Vector *m, Vector *out, int stride) {
        out[0] = m[0] + m[1];
        out[stride] = m[1] + m[2];
    }
};

// Pixels of a tile, `from(i, j)` a pointer for each, to points, channel by channel.
template <int SIDE, class From, class Put>
inline void to_points(const From &from, long channels, const Put &put) {
    for (long c = 0; c < channels; c += LANES) {
        Vector half[SIDE * SIDE], d[SIDE], out[SIDE];
#pragma GCC unroll 6
        for (int j = 0; j < SIDE; j++) {
#pragma GCC unroll 6
            for (int i = 0; i < SIDE; i++) d[i] = load(from(i, j) + c);
            Transform<SIDE>::transform_pixels(d, half + j, SIDE);
        }
#pragma GCC unroll 6
        for (int i = 0; i < SIDE; i++) {
            Transform<SIDE>::transform_pixels(half + SIDE * i, out, 1);
#pragma GCC unroll 6
            for (int j = 0; j < SIDE; j++) put(SIDE * i + j, c, out[j]);
        }
    }
}

// The pixel of x (n, height, width, channels) in that row and column; outside the image is zero.
template <class Number>
inline const Number *pixel(const Number *x, const Number *zeros, const Grid &g, long image,
                           long row, long column, long channels) {
    const bool inside = row >= 0 && row < g.height && column >= 0 && column < g.width;
    return inside ? x + ((image * g.height + row) * g.width + column) * channels : zeros;
}

}  // namespace
