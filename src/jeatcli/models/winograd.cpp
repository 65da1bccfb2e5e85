// Convolutions of 3x3, stride 1 and padding 1 by Winograd's F(4x4, 3x3) (Lavin and Gray 2016).
//
// A tile of 6x6 pixels is transformed into 36 points; at each point the channels are mixed by a
// matrix product; the 36 results are transformed back into 4x4 pixels. That is 36 products where
// the definition takes 144. A block of tiles goes through all three stages at once, so that what
// lies between them stays in the cache of one core. What a network does to the result at once (bias,
// sum with a residual, ReLU) is done while it is in registers, and not in a pass over memory.

#include <omp.h>

#include <algorithm>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif
constexpr int POINTS = 36;
// Tiles are taken by the dozen, which every `ROWS` below divides.
constexpr long DOZEN = 12;
// What a block takes of the second-level cache, in bytes.
constexpr long CACHE = 200000;

typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline Vector load(const float *from) { return *reinterpret_cast<const Vector *>(from); }
inline void store(float *to, Vector value) { *reinterpret_cast<Vector *>(to) = value; }

// All arrays of pixels are (n, height, width, channels).
struct Shape {
    long n, height, width, inputs, outputs;
    long down() const { return (height + 3) / 4; }
    long across() const { return (width + 3) / 4; }
    long tiles() const { return n * down() * across(); }
};

// What is done to the result; where a pointer is null, nothing.
struct After {
    const float *bias;      // one for each output, added
    const float *residual;  // as y, added
    bool relu;              // whether what is negative becomes zero in the end
};

// Where a tile's 4x4 pixels begin.
struct Place {
    long image, top, left;
    Place(const Shape &s, long tile)
        : image(tile / (s.down() * s.across())),
          top(tile / s.across() % s.down() * 4),
          left(tile % s.across() * 4) {}
};

// Six pixels to six points.
inline void ahead(const Vector *d, Vector *out, int stride) {
    Vector even = d[4] - 4 * d[2], odd = d[3] - 4 * d[1];
    Vector wide = d[4] - d[2], twice = 2 * (d[3] - d[1]);
    out[0] = 4 * d[0] - 5 * d[2] + d[4];
    out[stride] = even + odd;
    out[2 * stride] = even - odd;
    out[3 * stride] = wide + twice;
    out[4 * stride] = wide - twice;
    out[5 * stride] = 4 * d[1] - 5 * d[3] + d[5];
}

// Six points to four pixels.
inline void back(const Vector *m, Vector *out, int stride) {
    Vector sum = m[1] + m[2], difference = m[1] - m[2];
    Vector sum2 = m[3] + m[4], difference2 = m[3] - m[4];
    out[0] = m[0] + sum + sum2;
    out[stride] = difference + 2 * difference2;
    out[2 * stride] = sum + 4 * sum2;
    out[3 * stride] = difference + 8 * difference2 + m[5];
}

// Pixels of a tile to points, `rows` tiles apart; outside the image is zero.
void spread(const Shape &s, const float *x, const float *zeros, long tile, float *v, long rows) {
    Place at(s, tile);
    const float *from[POINTS];
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++) {
            long row = at.top + i - 1, column = at.left + j - 1;
            bool inside = row >= 0 && row < s.height && column >= 0 && column < s.width;
            long pixel = (at.image * s.height + row) * s.width + column;
            from[6 * i + j] = inside ? x + pixel * s.inputs : zeros;
        }
    for (long c = 0; c < s.inputs; c += LANES) {
        Vector half[POINTS], d[6], out[6];
        for (int j = 0; j < 6; j++) {
            for (int i = 0; i < 6; i++) d[i] = load(from[6 * i + j] + c);
            ahead(d, half + j, 6);
        }
        for (int i = 0; i < 6; i++) {
            ahead(half + 6 * i, out, 1);
            for (int j = 0; j < 6; j++) store(v + (6 * i + j) * rows * s.inputs + c, out[j]);
        }
    }
}

// Points of a tile, `rows` tiles apart, to those of its pixels that are inside the image.
template <int WIDTH>
void gather(const Shape &s, const float *m, const After &after, long tile, float *y, long first,
            long rows) {
    Place at(s, tile);
    for (int k = 0; k < WIDTH; k += LANES) {
        const Vector bias = after.bias ? load(after.bias + first + k) : Vector{};
        Vector half[24], d[6], out[4];
        for (int j = 0; j < 6; j++) {
            for (int i = 0; i < 6; i++) d[i] = load(m + (6 * i + j) * rows * WIDTH + k);
            back(d, half + j, 6);
        }
        for (int i = 0; i < 4 && at.top + i < s.height; i++) {
            back(half + 6 * i, out, 1);
            long pixel = (at.image * s.height + at.top + i) * s.width + at.left;
            for (int j = 0; j < 4 && at.left + j < s.width; j++) {
                const long place = (pixel + j) * s.outputs + first + k;
                Vector value = out[j] + bias;
                if (after.residual) value += load(after.residual + place);
                if (after.relu) value = value < 0 ? Vector{} : value;
                store(y + place, value);
            }
        }
    }
}

// m (ROWS, VECTORS * LANES) = v (ROWS, inputs) u (inputs, VECTORS * LANES), sums in registers.
template <int VECTORS, int ROWS>
inline void product(const float *v, const float *u, float *m, long inputs) {
    Vector sum[ROWS][VECTORS] = {};
    for (long c = 0; c < inputs; c++) {
        Vector right[VECTORS];
#pragma GCC unroll 4
        for (int k = 0; k < VECTORS; k++) right[k] = load(u + (c * VECTORS + k) * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; r++) {
            float left = v[r * inputs + c];
#pragma GCC unroll 4
            for (int k = 0; k < VECTORS; k++) sum[r][k] += left * right[k];
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int k = 0; k < VECTORS; k++) store(m + (r * VECTORS + k) * LANES, sum[r][k]);
}

// How many tiles a block has at least. Each block reads all weights, and the farther away they lie
// (in the second-level cache, in the third, in memory), the more tiles have to share that.
inline long least(const Shape &s) {
    const long bytes = 4 * POINTS * s.inputs * s.outputs;
    return DOZEN * (bytes <= 1 << 20 ? 1 : bytes <= 1 << 24 ? 2 : 3);
}

template <int VECTORS, int ROWS>
void convolve(const Shape &s, const float *x, const float *u, float *y, const After &after) {
    constexpr int WIDTH = VECTORS * LANES;
    static_assert(DOZEN % ROWS == 0, "a block must be whole for every product");
    const long tiles = s.tiles(), threads = omp_get_max_threads();
    const long fit = CACHE / (4 * POINTS * (s.inputs + WIDTH)) / DOZEN * DOZEN;
    const long share = ((tiles + threads - 1) / threads + DOZEN - 1) / DOZEN * DOZEN;
    const long rows = std::min(std::max(fit, least(s)), share);
    const long blocks = (tiles + rows - 1) / rows;
    const std::vector<float> zeros(s.inputs, 0.f);
#pragma omp parallel
    {
        // They are kept from call to call; rows that no tile fills hold what was there before.
        static thread_local std::vector<float> v, m;
        v.resize(std::max<size_t>(v.size(), POINTS * rows * s.inputs));
        m.resize(std::max<size_t>(m.size(), POINTS * rows * WIDTH));
#pragma omp for schedule(dynamic)
        for (long block = 0; block < blocks; block++) {
            const long first = block * rows, count = std::min(rows, tiles - first);
            for (long t = 0; t < count; t++)
                spread(s, x, zeros.data(), first + t, v.data() + t * s.inputs, rows);
            for (long k = 0; k < s.outputs; k += WIDTH) {
                for (long p = 0; p < POINTS; p++)
                    for (long t = 0; t < count; t += ROWS)
                        product<VECTORS, ROWS>(v.data() + (p * rows + t) * s.inputs,
                                               u + (p * s.outputs + k) * s.inputs,
                                               m.data() + (p * rows + t) * WIDTH, s.inputs);
                for (long t = 0; t < count; t++)
                    gather<WIDTH>(s, m.data() + t * WIDTH, after, first + t, y, k, rows);
            }
        }
    }
}

}  // namespace

// How many channels are taken at once: a layer's must be a multiple.
extern "C" long lanes() { return LANES; }

// How many outputs lie side by side in `u`, for a layer of so many.
extern "C" long panel(long outputs) {
    const long most = LANES == 16 ? 4 : 2;
    for (long vectors = most; vectors > 1; vectors /= 2)
        if (outputs % (vectors * LANES) == 0) return vectors * LANES;
    return LANES;
}

// y (n, height, width, outputs) of x (n, height, width, inputs) and the transformed weights
// u (36, outputs / panel, inputs, panel).
extern "C" void winograd(const float *x, const float *u, float *y, const float *bias,
                         const float *residual, long relu, long n, long height, long width,
                         long inputs, long outputs) {
    const Shape s{n, height, width, inputs, outputs};
    const After after{bias, residual, relu != 0};
    switch (panel(outputs) / LANES) {
#if defined(__AVX512F__)
        case 4: return convolve<4, 6>(s, x, u, y, after);
        case 2: return convolve<2, 12>(s, x, u, y, after);
#else
        case 2: return convolve<2, 6>(s, x, u, y, after);
#endif
        default: return convolve<1, 12>(s, x, u, y, after);
    }
}
