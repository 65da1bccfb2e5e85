// The tiles of a convolution of 3x3, and how Winograd's algorithm takes their pixels to points.

#pragma once

#if defined(__AVX512BF16__)
#include <immintrin.h>

#include <cstdint>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif

typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline Vector load(const float *from) { return *reinterpret_cast<const Vector *>(from); }
inline void store(float *to, Vector value) { *reinterpret_cast<Vector *>(to) = value; }

#if defined(__AVX512BF16__)
// The upper half of a float. Registers hold floats either way.
struct Bfloat16 {
    uint16_t bits;
};

inline Vector load(const Bfloat16 *from) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from));
    return (Vector)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
}
inline void store(Bfloat16 *to, Vector value) {
    const __m256i half = (__m256i)_mm512_cvtneps_pbh((__m512)value);
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), half);
}
#endif

// All arrays of pixels are (n, height, width, channels). With a stride of 2, these are the height
// and the width of the larger ones.
struct Shape {
    long n, height, width, inputs, outputs;
};

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

// Pixels in a row to as many points, and points to pixels, by the number of points.
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

// Pixels of a tile, `from` one pointer for each, to points, channel by channel.
template <int SIDE, class Number, class Put>
inline void to_points(const Number *const *from, long channels, const Put &put) {
    for (long c = 0; c < channels; c += LANES) {
        Vector half[SIDE * SIDE], d[SIDE], out[SIDE];
#pragma GCC unroll 6
        for (int j = 0; j < SIDE; j++) {
#pragma GCC unroll 6
            for (int i = 0; i < SIDE; i++) d[i] = load(from[SIDE * i + j] + c);
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

// A kind of convolution has `SIDE` by `SIDE` points for `TILE` by `TILE` pixels; how many images
// lie side by side at point p (`depth`), at all points before it (`before`), and at all (`TOTAL`);
// `PARTS` results, of which not every one `has` every point; and so many `WEIGHTS` at points for
// each input and output. The pixels of a result are `STEP` apart.

// What is common to those that see one image, in windows of as many pixels as points.
template <int WIDTH, int MARGIN>
struct Window {
    static constexpr int SIDE = WIDTH, TOTAL = SIDE * SIDE;
    static constexpr int depth(int) { return 1; }
    static constexpr int before(int p) { return p; }

    template <class Number>
    static void spread(const Shape &s, const Grid &g, const Number *x, const Number *zeros,
                       const Place &at, Number *v) {
        const Number *from[TOTAL];
        for (int i = 0; i < SIDE; i++) {
            const long row = (at.image * g.height + at.top + i - MARGIN) * g.width;
            fetch(x + (row + at.left + AHEAD * g.tile) * s.inputs, g.tile * s.inputs);
            for (int j = 0; j < SIDE; j++)
                from[SIDE * i + j] = pixel(x, zeros, g, at.image, at.top + i - MARGIN,
                                           at.left + j - MARGIN, s.inputs);
        }
        to_points<SIDE>(from, s.inputs, [=](int p, long c, Vector value) {
            store(v + c * TOTAL + p * LANES, value);
        });
    }
};

// What is common to those of one result.
struct Single {
    static constexpr int PARTS = 1, STEP = 1;
    static constexpr bool has(int, int) { return true; }
    static constexpr int row(int) { return 0; }
    static constexpr int column(int) { return 0; }
};

inline Grid half(const Shape &s, long tile) {
    return {s.n, (s.height + 1) / 2, (s.width + 1) / 2, tile};
}

// Stride 1, forward and backward.
template <int PIXELS>
struct Same : Window<PIXELS + 2, 1>, Single {
    static constexpr int TILE = PIXELS, WEIGHTS = (PIXELS + 2) * (PIXELS + 2);
    static Grid grid(const Shape &s) { return {s.n, s.height, s.width, TILE}; }
};

// Stride 2: of the four images, those of even rows have nothing at the points of the first row,
// and those of even columns nothing at those of the first column.
template <int PIXELS>
struct Down : Single {
    static constexpr int SIDE = PIXELS + 1, TILE = PIXELS, ROW = 2 * SIDE - 1;
    static constexpr int TOTAL = ROW * ROW, WEIGHTS = TOTAL;
    static constexpr int depth(int p) { return (p < SIDE ? 1 : 2) * (p % SIDE ? 2 : 1); }
    static constexpr int before(int p) {
        const int i = p / SIDE, j = p % SIDE;
        return (i ? (2 * i - 1) * ROW : 0) + (j ? (i ? 2 : 1) * (2 * j - 1) : 0);
    }
    static Grid grid(const Shape &s) { return half(s, TILE); }

    template <class Number>
    static void spread(const Shape &s, const Grid &, const Number *x, const Number *zeros,
                       const Place &at, Number *v) {
        const Grid all = {s.n, s.height, s.width, TILE};
        for (int even = 0; even < 4; even++) {
            const int down = even / 2, across = even % 2;
            const Number *from[SIDE * SIDE];
            for (int i = 0; i < SIDE; i++)
                for (int j = 0; j < SIDE; j++)
                    from[SIDE * i + j] =
                        pixel(x, zeros, all, at.image, 2 * (at.top + i) - 1 - down,
                              2 * (at.left + j) - 1 - across, s.inputs);
            to_points<SIDE>(from, s.inputs, [=](int p, long c, Vector value) {
                if ((down && p < SIDE) || (across && p % SIDE == 0)) return;
                const int slot = down * (p % SIDE ? 2 : 1) + across;
                store(v + c * TOTAL + (before(p) + slot) * LANES, value);
            });
        }
    }
};

static_assert(Down<4>::before(24) + Down<4>::depth(24) == Down<4>::TOTAL);
static_assert(Down<2>::before(8) + Down<2>::depth(8) == Down<2>::TOTAL);

// Stride 2, backward: the results are the four images, those of even rows without the points of the
// last row, and those of even columns without those of the last column.
template <int PIXELS>
struct Up : Window<PIXELS + 1, 0> {
    static constexpr int TILE = PIXELS, PARTS = 4, STEP = 2, SIDE = PIXELS + 1;
    static constexpr int WEIGHTS = (2 * SIDE - 1) * (2 * SIDE - 1);
    static constexpr bool has(int part, int p) {
        return (part / 2 == 0 || p < SIDE * (SIDE - 1)) &&
               (part % 2 == 0 || p % SIDE < SIDE - 1);
    }
    static constexpr int row(int part) { return 1 - part / 2; }
    static constexpr int column(int part) { return 1 - part % 2; }
    static Grid grid(const Shape &s) { return half(s, TILE); }
};

}  // namespace
