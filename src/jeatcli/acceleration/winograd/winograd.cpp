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

#include "winograd.h"

#include <omp.h>

#include <algorithm>
#include <vector>

namespace {

// Tiles are taken by the dozen, which every `ROWS` below divides.
constexpr long DOZEN = 12;
// What a block takes of the second-level cache, in bytes.
constexpr long CACHE = 300000;

// What is done to the result while it is in registers; where a pointer is null, nothing.
template <class Number>
struct After {
    const float *bias;       // one for each output, added
    const Number *residual;  // as y, added
    const Number *cut;       // as y; where it is not positive, the result becomes zero
    const float *scale;      // one for each output, multiplied
    const Number *more;      // as y, added to the product
    const float *scale_too, *shift_too;  // of a second result, the ReLU of a multiple and a sum
    Number *too;
    long relu;  // whether what is negative becomes zero, before anything is cut

    // Finish and store the values of the outputs from `k` on, of a pixel whose outputs begin there.
    void operator()(Vector value, Number *y, long pixel, long k) const {
        const long place = pixel + k;
        if (bias) value += load(bias + k);
        if (residual) value += load(residual + place);
        if (relu) value = value < 0 ? Vector{} : value;
        if (cut) value = load(cut + place) <= 0 ? Vector{} : value;
        if (scale) value *= load(scale + k);
        if (more) value += load(more + place);
        if (y) store(y + place, value);
        if (!too) return;
        if (scale_too) value = value * load(scale_too + k) + load(shift_too + k);
        store(too + place, value < 0 ? Vector{} : value);
    }
};

// Points of a tile, side by side, to those of its pixels that are inside the image.
template <class Kind, int WIDTH, class Number>
void gather(const Shape &s, const Grid &g, const float *m, const After<Number> after,
            const Place &at, Number *y, int part, long first) {
    constexpr int SIDE = Kind::SIDE, TILE = Kind::TILE, STEP = Kind::STEP;
    const long height = STEP == 1 ? g.height : s.height, width = STEP == 1 ? g.width : s.width;
    const long top = STEP * at.top + Kind::row(part), left = STEP * at.left + Kind::column(part);
    const long pixel = ((at.image * height + top) * width + left) * s.outputs;
    const long right = STEP * s.outputs, below = width * right;
    for (const Number *array : {after.residual, after.cut, after.more})
        for (int i = 0; array && i < TILE; i++)
            for (int j = AHEAD * TILE; j < (AHEAD + 1) * TILE; j++)
                fetch(array + pixel + i * below + j * right + first, WIDTH);
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

// What one piece of the inputs, `left`, adds: one number of each row, times a row of u.
template <int VECTORS, int ROWS>
inline void add(Vector (&sum)[ROWS][VECTORS], const float *left, long next, const float *u) {
    for (long c = 0; c < LANES; c++, u += VECTORS * LANES) {
        Vector right[VECTORS];
#pragma GCC unroll 4
        for (int k = 0; k < VECTORS; k++) right[k] = load(u + k * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
            for (int k = 0; k < VECTORS; k++) sum[r][k] += left[r * next + c] * right[k];
    }
}

#if defined(__AVX512BF16__)
// The same in bfloat16, whose instruction multiplies two neighbours at once and adds up in float:
// of u, two inputs lie side by side for each output.
template <int VECTORS, int ROWS>
inline void add(Vector (&sum)[ROWS][VECTORS], const Bfloat16 *left, long next, const Bfloat16 *u) {
    for (long c = 0; c < LANES; c += 2, u += 2 * VECTORS * LANES) {
        __m512bh right[VECTORS];
#pragma GCC unroll 4
        for (int k = 0; k < VECTORS; k++)
            right[k] = (__m512bh)_mm512_loadu_si512(u + 2 * k * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; r++) {
            int pair;
            __builtin_memcpy(&pair, left + r * next + c, sizeof pair);
            const __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 4
            for (int k = 0; k < VECTORS; k++)
                sum[r][k] = (Vector)_mm512_dpbf16_ps((__m512)sum[r][k], both, right[k]);
        }
    }
}
#endif

// m (ROWS, VECTORS * LANES) = v (ROWS, inputs) u (inputs, VECTORS * LANES), sums in registers. Rows
// of v are `next` apart; `depth` times as many inputs as an image has are at this point.
template <class Kind, int VECTORS, int ROWS, class Number>
inline void product(const Number *v, long next, const Number *u, float *m, int depth, long pieces) {
    Vector sum[ROWS][VECTORS] = {};
    for (int d = 0; d < depth; d++)
        for (long piece = 0; piece < pieces; piece++, u += LANES * VECTORS * LANES)
            add(sum, v + (piece * Kind::TOTAL + d) * LANES, next, u);
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
        for (int k = 0; k < VECTORS; k++)
            store(m + r * apart<Kind>(VECTORS * LANES) + k * LANES, sum[r][k]);
}

// How many tiles a block has. Each block reads all weights: where the second-level cache does not
// hold them, more tiles have to share that.
template <class Kind, class Number>
long block_rows(const Shape &s, long tiles, long panel) {
    const long size = sizeof(Number);
    const long bytes = size * Kind::WEIGHTS * s.inputs * s.outputs;
    const long least = DOZEN * (bytes <= 1 << 20 ? 1 : 4);
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
    const long pieces = s.inputs / LANES, next = Kind::TOTAL * s.inputs + 2 * LANES;
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
        v.resize(std::max<size_t>(v.size(), rows * next));
        m.resize(std::max<size_t>(m.size(), rows * NEXT));
#pragma omp for schedule(dynamic)
        for (long block = 0; block < blocks; block++) {
            const long first = block * rows, count = std::min(rows, tiles - first);
            Place at(g, first);
            for (long t = 0; t < count; t++, at.go_on(g))
                Kind::spread(s, g, x, zeros.data(), at, v.data() + t * next);
            const Number *weights = u;
            for (int part = 0; part < Kind::PARTS; part++)
                for (long k = 0; k < s.outputs; k += WIDTH) {
                    for (int p = 0; p < POINTS; p++) {
                        if (!Kind::has(part, p)) continue;
                        const Number *from = v.data() + Kind::before(p) * LANES;
                        for (long t = 0; t < count; t += ROWS)
                            product<Kind, VECTORS, ROWS>(from + t * next, next, weights,
                                                         m.data() + t * NEXT + p * WIDTH,
                                                         Kind::depth(p), pieces);
                        weights += Kind::depth(p) * s.inputs * WIDTH;
                    }
                    at = Place(g, first);
                    for (long t = 0; t < count; t++, at.go_on(g))
                        gather<Kind, WIDTH>(s, g, m.data() + t * NEXT, after, at, y, part, k);
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

template <class Number>
void finish_all(const Number *x, Number *y, const After<Number> &after, long pixels,
                long channels) {
#pragma omp parallel for
    for (long pixel = 0; pixel < pixels; pixel++)
        for (long k = 0; k < channels; k += LANES)
            after(load(x + pixel * channels + k), y, pixel * channels, k);
}

}  // namespace

// y (n, height, width, outputs) of x (n, height, width, inputs); of the transformed weights u,
// panel after panel of outputs, in each all that a point has, point after point.
extern "C" void same(const float *x, const float *u, float *y, const After<float> *after, long n,
                     long height, long width, long inputs, long outputs) {
    choose<Same<4>, float>({n, height, width, inputs, outputs}, x, u, y, *after);
}

// The same with a stride of 2: y has half the height and width, rounded up.
extern "C" void down(const float *x, const float *u, float *y, const After<float> *after, long n,
                     long height, long width, long inputs, long outputs) {
    choose<Down<4>, float>({n, height, width, inputs, outputs}, x, u, y, *after);
}

// Its backward pass: x has half the height and width, rounded up; in u part follows part.
extern "C" void up(const float *x, const float *u, float *y, const After<float> *after, long n,
                   long height, long width, long inputs, long outputs) {
    choose<Up<4>, float>({n, height, width, inputs, outputs}, x, u, y, *after);
}

// What is done after a convolution, to x (pixels, channels) as it is; y may be null.
extern "C" void finish(const float *x, float *y, const After<float> *after, long pixels,
                       long channels) {
    finish_all(x, y, *after, pixels, channels);
}

#if defined(__AVX512BF16__)
// The same in bfloat16; bias, scales and shift are float.
extern "C" void same_bf16(const Bfloat16 *x, const Bfloat16 *u, Bfloat16 *y,
                          const After<Bfloat16> *after, long n, long height, long width,
                          long inputs, long outputs) {
    choose<Same<2>, Bfloat16>({n, height, width, inputs, outputs}, x, u, y, *after);
}

extern "C" void down_bf16(const Bfloat16 *x, const Bfloat16 *u, Bfloat16 *y,
                          const After<Bfloat16> *after, long n, long height, long width,
                          long inputs, long outputs) {
    choose<Down<2>, Bfloat16>({n, height, width, inputs, outputs}, x, u, y, *after);
}

extern "C" void up_bf16(const Bfloat16 *x, const Bfloat16 *u, Bfloat16 *y,
                        const After<Bfloat16> *after, long n, long height, long width,
                        long inputs, long outputs) {
    choose<Up<2>, Bfloat16>({n, height, width, inputs, outputs}, x, u, y, *after);
}

extern "C" void finish_bf16(const Bfloat16 *x, Bfloat16 *y, const After<Bfloat16> *after,
                            long pixels, long channels) {
    finish_all(x, y, *after, pixels, channels);
}
#endif
