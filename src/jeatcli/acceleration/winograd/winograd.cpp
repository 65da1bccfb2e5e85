// Convolutions of 3x3 and padding 1 by Winograd's algorithm (Lavin and Gray 2016).
//
// Of stride 1: F(4x4, 3x3). A tile of 6x6 pixels is transformed into 36 points; at each point the
// channels are mixed by a matrix product; the 36 results are transformed back into 4x4 pixels. That
// is 36 products where the definition takes 144. Of stride 2: the pixels of odd and of even rows
// and columns are four images, of which the convolution is the sum of four, of 2x2, 2x1, 1x2 and
// one weight: F(4x4, 2x2), 81 products at 25 points. In bfloat16, whose rounding larger tiles would
// multiply: F(2x2, 3x3), 16 products for 36, of stride 1 alone. A block of tiles goes through all
// three stages at once, so that what lies between them stays in the cache of one core. What a
// network does to the result at once (bias, sum with a residual, ReLU) is done while it is in
// registers, and not in a pass over memory.

#include "winograd.h"

#include <omp.h>

#include <algorithm>
#include <vector>

namespace {

// Tiles are taken by the dozen, which every `ROWS` below divides.
constexpr long DOZEN = 12;
// What a block takes of the second-level cache, in bytes.
constexpr long CACHE = 200000;

// What is done to the result; where a pointer is null, nothing.
template <class Number>
struct After {
    const float *bias;       // one for each output, added
    const Number *residual;  // as y, added
    bool relu;               // whether what is negative becomes zero in the end
};

// Points of a tile, `rows` tiles apart, to those of its pixels that are inside the image.
template <class Kind, int WIDTH, class Number>
void gather(const Shape &s, const Grid &g, const float *m, const After<Number> &after, long tile,
            Number *y, int part, long first, long rows) {
    constexpr int SIDE = Kind::SIDE, TILE = Kind::TILE, STEP = Kind::STEP;
    const Place at(g, tile);
    const long height = STEP == 1 ? g.height : s.height, width = STEP == 1 ? g.width : s.width;
    const long top = STEP * at.top + Kind::row(part), left = STEP * at.left + Kind::column(part);
    for (int k = 0; k < WIDTH; k += LANES) {
        const Vector bias = after.bias ? load(after.bias + first + k) : Vector{};
        Vector half[TILE * SIDE], d[SIDE], out[TILE];
        for (int j = 0; j < SIDE; j++) {
            for (int i = 0; i < SIDE; i++) {
                const int p = SIDE * i + j;
                d[i] = Kind::has(part, p) ? load(m + p * rows * WIDTH + k) : Vector{};
            }
            Transform<SIDE>::transform_points(d, half + j, SIDE);
        }
        for (int i = 0; i < TILE && top + STEP * i < height; i++) {
            Transform<SIDE>::transform_points(half + SIDE * i, out, 1);
            const long row = (at.image * height + top + STEP * i) * width + left;
            for (int j = 0; j < TILE && left + STEP * j < width; j++) {
                const long place = (row + STEP * j) * s.outputs + first + k;
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

#if defined(__AVX512BF16__)
// The same in bfloat16, whose instruction multiplies two neighbours at once and adds up in float:
// of u, two inputs lie side by side for each output.
template <int VECTORS, int ROWS>
inline void product(const Bfloat16 *v, const Bfloat16 *u, float *m, long inputs) {
    __m512 sum[ROWS][VECTORS] = {};
    for (long c = 0; c < inputs; c += 2) {
        __m512bh right[VECTORS];
#pragma GCC unroll 4
        for (int k = 0; k < VECTORS; k++)
            right[k] = (__m512bh)_mm512_loadu_si512(u + (c * VECTORS + 2 * k) * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; r++) {
            int pair;
            __builtin_memcpy(&pair, v + r * inputs + c, sizeof pair);
            const __m512bh left = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 4
            for (int k = 0; k < VECTORS; k++)
                sum[r][k] = _mm512_dpbf16_ps(sum[r][k], left, right[k]);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int k = 0; k < VECTORS; k++)
            store(m + (r * VECTORS + k) * LANES, (Vector)sum[r][k]);
}
#endif

// How many tiles a block has. Each block reads all weights, and the farther away they lie (in the
// second-level cache, in the third, in memory), the more tiles have to share that.
template <class Kind, class Number>
long block_rows(const Shape &s, long tiles, long panel) {
    const long size = sizeof(Number);
    const long bytes = size * Kind::WEIGHTS * s.inputs * s.outputs;
    const long least = DOZEN * (bytes <= 1 << 20 ? 1 : bytes <= 1 << 24 ? 2 : 3);
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
    static_assert(DOZEN % ROWS == 0, "a block must be whole for every product");
    const Grid g = Kind::grid(s);
    const long tiles = g.tiles();
    if (!tiles) return;
    const long rows = block_rows<Kind, Number>(s, tiles, WIDTH);
    const long blocks = (tiles + rows - 1) / rows;
    const std::vector<Number> zeros(s.inputs);
#pragma omp parallel
    {
        // They are kept from call to call; rows that no tile fills hold what was there before.
        static thread_local std::vector<Number> v;
        static thread_local std::vector<float> m;
        v.resize(std::max<size_t>(v.size(), Kind::TOTAL * rows * s.inputs));
        m.resize(std::max<size_t>(m.size(), POINTS * rows * WIDTH));
#pragma omp for schedule(dynamic)
        for (long block = 0; block < blocks; block++) {
            const long first = block * rows, count = std::min(rows, tiles - first);
            for (long t = 0; t < count; t++)
                Kind::spread(s, g, x, zeros.data(), first + t, v.data(), rows, t);
            const Number *weights = u;
            for (int part = 0; part < Kind::PARTS; part++)
                for (long k = 0; k < s.outputs; k += WIDTH) {
                    for (int p = 0; p < POINTS; p++) {
                        if (!Kind::has(part, p)) continue;
                        const long inputs = Kind::depth(p) * s.inputs;
                        const Number *from = v.data() + Kind::before(p) * rows * s.inputs;
                        for (long t = 0; t < count; t += ROWS)
                            product<VECTORS, ROWS>(from + t * inputs, weights,
                                                   m.data() + (p * rows + t) * WIDTH, inputs);
                        weights += inputs * WIDTH;
                    }
                    for (long t = 0; t < count; t++)
                        gather<Kind, WIDTH>(s, g, m.data() + t * WIDTH, after, first + t, y, part,
                                            k, rows);
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

namespace {

template <class Kind, class Number>
void choose(const Shape &s, const Number *x, const Number *u, Number *y,
            const After<Number> &after) {
    switch (panel(s.outputs) / LANES) {
#if defined(__AVX512F__)
        case 4: return convolve<Kind, 4, 6>(s, x, u, y, after);
        case 2: return convolve<Kind, 2, 12>(s, x, u, y, after);
#else
        case 2: return convolve<Kind, 2, 6>(s, x, u, y, after);
#endif
        default: return convolve<Kind, 1, 12>(s, x, u, y, after);
    }
}

}  // namespace

// y (n, height, width, outputs) of x (n, height, width, inputs); of the transformed weights u,
// panel after panel of outputs, in each all that a point has, point after point.
extern "C" void same(const float *x, const float *u, float *y, const float *bias,
                     const float *residual, long relu, long n, long height, long width,
                     long inputs, long outputs) {
    choose<Same<4>, float>({n, height, width, inputs, outputs}, x, u, y,
                           {bias, residual, relu != 0});
}

#if defined(__AVX512BF16__)
// The same in bfloat16; bias is float.
extern "C" void same_bf16(const Bfloat16 *x, const Bfloat16 *u, Bfloat16 *y, const float *bias,
                          const Bfloat16 *residual, long relu, long n, long height, long width,
                          long inputs, long outputs) {
    choose<Same<2>, Bfloat16>({n, height, width, inputs, outputs}, x, u, y,
                              {bias, residual, relu != 0});
}
#endif

// The same with a stride of 2: y has half the height and width, rounded up.
extern "C" void down(const float *x, const float *u, float *y, const float *bias,
                     const float *residual, long relu, long n, long height, long width,
                     long inputs, long outputs) {
    choose<Down, float>({n, height, width, inputs, outputs}, x, u, y, {bias, residual, relu != 0});
}

// Its backward pass: x has half the height and width, rounded up; in u part follows part.
extern "C" void up(const float *x, const float *u, float *y, const float *bias,
                   const float *residual, long relu, long n, long height, long width, long inputs,
                   long outputs) {
    choose<Up, float>({n, height, width, inputs, outputs}, x, u, y, {bias, residual, relu != 0});
}
