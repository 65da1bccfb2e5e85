// The gradient by the weights of a convolution of 3x3, by the processor's tiles (AMX).
//
// For each weight it is the sum over the pixels of what an output's gradient is there, times what an
// input is at the pixel that the weight reads. A row of a tile has 16 pixels, each of two images: of
// an output (gradients) or, pixel after pixel, of 16 inputs. So the pixels of another weight are the
// same rows further on. The sums are in float32, and in the same order whatever the number of
// threads.

#pragma once

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)

#include "amx.h"

namespace {

constexpr long WEIGHTS = 9, SUMS = ROWS * ROWS;  // of a tile of sums: outputs by inputs
// What the copies of a block take, in bytes: they are read once for each tile of sums.
constexpr long WGRAD_COPIES = 1000000;
// There are at least so many tasks, where the images are enough and not too large for it.
constexpr long WGRAD_TASKS = 16;

// How the pixels are laid out. Groups of pairs of images lie side by side, as many as fill rows of
// results with whole tiles; what is no pixel of an image is zero. A tile that went beyond a row would
// multiply zeros by other weights' pixels, which may be infinite.
template <class Kind>
struct Pairs {
    static constexpr long FROM = Kind::FROM, MOST = Kind::MOST;
    long height, width;            // of the result
    long together, groups;         // pairs in a group, and how many groups there are
    long inputs, outputs;          // in 16 channels
    long across;                   // tiles of a row of results
    long half, row;                // numbers of every second column of a row of inputs, and of all
    long plane_in, plane_out;      // numbers of a group of 16 inputs, or 16 outputs
    long parts;                    // of the groups, whose sums are apart

    explicit Pairs(const Shape &s) {
        const long pairs = (s.n + 1) / 2;
        height = (s.height + FROM - 1) / FROM, width = (s.width + FROM - 1) / FROM;
        together = ROWS / std::gcd(width, ROWS);
        groups = (pairs + together - 1) / together;
        inputs = s.inputs / ROWS, outputs = s.outputs / ROWS;
        across = width * together / ROWS;
        // Beyond the last column there is the margin.
        half = across * TILE + (MOST + FROM - 2) / FROM * together * PIECE;
        row = FROM * half;
        // Apart by no multiple of a page.
        plane_in = lines() * row + 3 * PIECE;
        plane_out = height * across * TILE + 5 * PIECE;
        const long wanted = std::min(WGRAD_TASKS / (inputs * outputs), 4 * WGRAD_COPIES / size());
        parts = std::min(std::clamp(wanted, 1l, 8l), groups);
    }

    long lines() const { return FROM * (height - 1) + MOST; }
    // Where the pixels of a column are, in a row of inputs.
    long column(long j) const { return j % FROM * half + j / FROM * together * PIECE; }
    long size() const { return inputs * plane_in + outputs * plane_out; }  // of a group
};

typedef uint16_t Channels __attribute__((vector_size(32), aligned(2), may_alias));
typedef uint32_t Both __attribute__((vector_size(64), may_alias));

// The same 16 channels of two images, of which the second one may be missing, side by side.
inline Both side_by_side(const Bfloat16 *first, const Bfloat16 *second) {
    const auto wide = [](const Bfloat16 *from) {
        return __builtin_convertvector(*reinterpret_cast<const Channels *>(from), Both);
    };
    return second ? wide(first) | wide(second) << 16 : wide(first);
}

// A pixel of the first image of a pair, and of the second one; null where there is none.
struct Pair {
    const Bfloat16 *first = nullptr, *second = nullptr;
    Pair() = default;
    // Of the images x, each of so many numbers.
    Pair(const Bfloat16 *x, long n, long pair, long image, long place) {
        if (2 * pair < n) first = x + 2 * pair * image + place;
        if (2 * pair + 1 < n) second = first + image;
    }
    Both channels(long from) const {
        return side_by_side(first + from, second ? second + from : nullptr);
    }
};

// Copy a row of the inputs of a group.
template <class Kind>
void copy_inputs(const Shape &s, const Pairs<Kind> &o, const Bfloat16 *x, long group, long line,
                 Bfloat16 *to) {
    to += line * o.row;
    for (long c = 0; c < o.inputs; c++) std::fill_n(to + c * o.plane_in, o.row, Bfloat16{});
    const long row = line - Kind::MARGIN;
    if (row < 0 || row >= s.height) return;
    for (long g = 0; g < o.together; g++) {
        const long image = s.height * s.width * s.inputs;
        const Pair pixels(x, s.n, group * o.together + g, image, row * s.width * s.inputs);
        if (!pixels.first) return;
        for (long j = 0; j < s.width; j++) {
            Bfloat16 *pixel = to + o.column(j + Kind::MARGIN) + g * PIECE;
            for (long c = 0; c < o.inputs; c++, pixel += o.plane_in)
                *reinterpret_cast<Both *>(pixel) = pixels.channels(j * s.inputs + c * ROWS);
        }
    }
}

// Let rows be columns: words that are 1, 2, 4 and 8 places apart go to the row as far apart.
inline void transpose(Both (&rows)[ROWS]) {
    constexpr uint32_t COUNT = ROWS;
    const Both place = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#pragma GCC unroll 4
    for (uint32_t apart = 1; apart < COUNT; apart *= 2) {
        // Which words of two rows, those of the second from 16 on, are the new ones.
        const Both odd = (Both)((place & apart) != 0);
        const Both low = (place & ~odd) | ((place + COUNT - apart) & odd);
        const Both high = ((place + apart) & ~odd) | ((place + COUNT) & odd);
#pragma GCC unroll 16
        for (uint32_t r = 0; r < COUNT; r++) {
            if (r & apart) continue;
            const __m512i upper = (__m512i)rows[r], lower = (__m512i)rows[r + apart];
            rows[r] = (Both)_mm512_permutex2var_epi32(upper, (__m512i)low, lower);
            rows[r + apart] = (Both)_mm512_permutex2var_epi32(upper, (__m512i)high, lower);
        }
    }
}

// Copy a row of the gradients of a group, as tiles whose rows are outputs.
template <class Kind>
void copy_gradients(const Shape &s, const Pairs<Kind> &o, const Bfloat16 *y, long group, long row,
                    Bfloat16 *to) {
    const long image = o.height * o.width * s.outputs;
    to += row * o.across * TILE;
    long j = 0, g = 0;
    for (long t = 0; t < o.across; t++, to += TILE) {
        Pair pixels[ROWS];
        for (long r = 0; r < ROWS && j < o.width; r++) {
            const long place = (row * o.width + j) * s.outputs;
            pixels[r] = Pair(y, s.n, group * o.together + g, image, place);
            if (++g == o.together) g = 0, j++;
        }
        for (long k = 0; k < o.outputs; k++) {
            Both tile[ROWS];
            for (long r = 0; r < ROWS; r++)
                tile[r] = pixels[r].first ? pixels[r].channels(k * ROWS) : Both{};
            transpose(tile);
            for (long r = 0; r < ROWS; r++)
                *reinterpret_cast<Both *>(to + k * o.plane_out + r * PIECE) = tile[r];
        }
    }
}

// Add, or with `begin` set, what the pixels of every so many groups of a block give `COUNT` weights
// from `FIRST` on, four or five: of 16 inputs x and 16 outputs y.
template <int FIRST, int COUNT, class Kind>
void add_pixels(const Pairs<Kind> &o, const Bfloat16 *x, const Bfloat16 *y, long groups,
                float *sums, long next, bool begin) {
    long from[COUNT];
    for (int i = 0; i < COUNT; i++)
        from[i] = (FIRST + i) / 3 * o.row + o.column((FIRST + i) % 3);
    const auto at = [&](int i) { return sums + (FIRST + i) * next; };
#define FOR_EACH_SUM(DO) DO(0, 6) DO(1, 7) DO(2, 6) DO(3, 7) if constexpr (COUNT == 5) { DO(4, 6) }
#define BEGIN(SUM, _) if (begin) _tile_zero(SUM); else _tile_loadd(SUM, at(SUM), 64);
#define ADD(SUM, INPUTS)                         \
    _tile_loadd(INPUTS, pixels + from[SUM], 64); \
    _tile_dpbf16ps(SUM, 5, INPUTS);
#define KEEP(SUM, _) _tile_stored(SUM, at(SUM), 64);
    FOR_EACH_SUM(BEGIN)
    for (long g = 0; g < groups; g += o.parts, x += o.parts * o.size(), y += o.parts * o.size())
        for (long row = 0; row < o.height; row++) {
            const Bfloat16 *pixels = x + row * Kind::FROM * o.row;
            const Bfloat16 *gradients = y + row * o.across * TILE;
            for (long t = 0; t < o.across; t++, pixels += TILE, gradients += TILE) {
                _tile_loadd(5, gradients, 64);
                FOR_EACH_SUM(ADD)
            }
        }
    FOR_EACH_SUM(KEEP)
#undef FOR_EACH_SUM
#undef BEGIN
#undef ADD
#undef KEEP
}

// The gradient w (outputs, inputs, 3, 3) of the sums of all parts.
template <class Kind>
void collect(const Pairs<Kind> &o, const float *sums, float *w) {
    const long blocks = o.inputs * o.outputs;
#pragma omp for
    for (long output = 0; output < o.outputs * ROWS; output++)
        for (long input = 0; input < o.inputs * ROWS; input++)
            for (long weight = 0; weight < WEIGHTS; weight++) {
                const long block = output / ROWS * o.inputs + input / ROWS;
                const float *from = sums + (weight * blocks + block) * SUMS +
                                    output % ROWS * ROWS + input % ROWS;
                float sum = 0;
                for (long part = 0; part < o.parts; part++) sum += from[part * WEIGHTS * blocks * SUMS];
                w[(output * o.inputs * ROWS + input) * WEIGHTS + weight] = sum;
            }
}

template <class Kind>
void wgrad_tiles(const Shape &s, const Bfloat16 *x, const Bfloat16 *y, float *w) {
    if (!s.n) return std::fill_n(w, WEIGHTS * s.inputs * s.outputs, 0.f), void();
    const Pairs<Kind> o(s);
    const long size = o.size(), blocks = o.inputs * o.outputs, next = blocks * SUMS;
    // Whole parts, so that the sums of each begin in the first block.
    const long fit = std::max(WGRAD_COPIES / (2 * size) / o.parts, 1l) * o.parts;
    const long most = std::min(fit, o.groups);
    // They are kept from call to call.
    static thread_local Kept<Bfloat16> kept;
    static thread_local Kept<float> kept_sums;
    Bfloat16 *const copies = kept.get(most * size);
    float *const sums = kept_sums.get(o.parts * WEIGHTS * next);
#pragma omp parallel
    {
        const Configuration configuration;
        _tile_loadconfig(&configuration);
        for (long first = 0; first < o.groups; first += most) {
            const long there = std::min(most, o.groups - first);
#pragma omp for collapse(2) nowait
            for (long g = 0; g < there; g++)
                for (long line = 0; line < o.lines(); line++)
                    copy_inputs(s, o, x, first + g, line, copies + g * size);
#pragma omp for collapse(2)
            for (long g = 0; g < there; g++)
                for (long row = 0; row < o.height; row++)
                    copy_gradients(s, o, y, first + g, row,
                                   copies + g * size + o.inputs * o.plane_in);
#pragma omp for collapse(3)
            for (long part = 0; part < o.parts; part++)
                for (long k = 0; k < o.outputs; k++)
                    for (long c = 0; c < o.inputs; c++) {
                        const Bfloat16 *group = copies + part * size;
                        const Bfloat16 *inputs = group + c * o.plane_in;
                        const Bfloat16 *gradients = group + o.inputs * o.plane_in + k * o.plane_out;
                        float *to = sums + part * WEIGHTS * next + (k * o.inputs + c) * SUMS;
                        const long left = there - part;
                        add_pixels<0, 5>(o, inputs, gradients, left, to, next, !first);
                        add_pixels<5, 4>(o, inputs, gradients, left, to, next, !first);
                    }
        }
        _tile_release();
        collect(o, sums, w);
    }
}

}  // namespace

#endif
