// A convolution of 3x3 of few channels: that of a network's pixels. Its weights at the points of
// Winograd's algorithm would fill no vector, so it multiplies as the definition does, in float.

#pragma once

#include "after.h"

#include <algorithm>
#include <vector>

namespace {

// The line of pixels in that row, as floats, zeros beyond the image, from one pixel before it on.
template <class Number>
void copy_line(const Number *x, const Shape &s, long image, long row, long channels, float *to) {
    const long count = s.width * channels;
    to += channels;
    if (row < 0 || row >= s.height) {
        std::fill_n(to, count, 0.f);
        return;
    }
    const Number *from = x + (image * s.height + row) * count;
    if constexpr (sizeof(Number) == sizeof(float)) {
        std::copy_n(from, count, to);
    } else {
        for (long c = 0; c < count; c += LANES) store(to + c, load(from + c));
    }
}

// The three lines around each line of the result, in turn: do(lines, line's number). Their numbers
// are `length` apart, and `PIXELS` more pixels lie beyond the last one.
template <int PIXELS, class Number, class Do>
void by_lines(const Shape &s, const Number *x, long channels, const Do &finish_line) {
    const long length = (s.width + 2 + PIXELS) * channels;
#pragma omp parallel
    {
        std::vector<float> lines(3 * length);
#pragma omp for schedule(static)
        for (long line = 0; line < s.n * s.height; line++) {
            const long image = line / s.height, row = line % s.height;
            for (int i = 0; i < 3; i++)
                copy_line(x, s, image, row + i - 1, channels, lines.data() + i * length);
            finish_line(lines.data(), length, line);
        }
    }
}

// y (n, height, width, outputs) of x (n, height, width, CHANNELS); u has for each piece of outputs
// the weights of all neighbours and channels.
template <int CHANNELS, class Number>
void stem(const Shape &s, const float *x, const float *u, Number *y, const After<Number> &after) {
    constexpr int PIXELS = LANES, ROW = 3 * CHANNELS;
    by_lines<PIXELS>(s, x, CHANNELS, [&](const float *lines, long length, long line) {
        for (long left = 0; left < s.width; left += PIXELS) {
            const long count = std::min<long>(PIXELS, s.width - left);
            for (long k = 0; k < s.outputs; k += LANES) {
                Vector sum[PIXELS] = {};
                const float *weights = u + 3 * ROW * k;
                for (int i = 0; i < 3; i++) {
                    const float *from = lines + i * length + left * CHANNELS;
                    for (int j = 0; j < ROW; j++, weights += LANES) {
                        const Vector weight = load(weights);
#pragma GCC unroll 16
                        for (int p = 0; p < PIXELS; p++) sum[p] += from[p * CHANNELS + j] * weight;
                    }
                }
                if (__builtin_expect(after.silu, 0)) {
                    constexpr int EACH = 4;
                    for (int p = 0; p < count; p += EACH) {
                        long pixels[EACH];
                        for (int e = 0; e < EACH; e++)
                            pixels[e] = (line * s.width + left + p + e) * s.outputs;
                        const long there = std::min<long>(EACH, count - p);
                        after.template some<EACH>(sum + p, y, pixels, k, (1u << there) - 1);
                    }
                    continue;
                }
#pragma GCC unroll 16
                for (int p = 0; p < PIXELS; p++)
                    if (p < count) after(sum[p], y, (line * s.width + left + p) * s.outputs, k);
            }
        }
    });
}

// The sum of the numbers of a vector.
inline float total(Vector vector) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)vector);
#else
    float sum = 0;
    for (int l = 0; l < LANES; l++) sum += vector[l];
    return sum;
#endif
}

// The gradient y (n, height, width, CHANNELS) by the pixels, of that by the result x (n, height,
// width, inputs); u has for each neighbour and piece of inputs the weights of all channels.
template <int CHANNELS, class Number>
void stem_back(const Shape &s, const Number *x, const float *u, float *y) {
    constexpr int PIXELS = 4;
    by_lines<PIXELS>(s, x, s.inputs, [&](const float *lines, long length, long line) {
        for (long left = 0; left < s.width; left += PIXELS) {
            Vector sum[PIXELS][CHANNELS] = {};
            const float *weights = u;
            for (int i = 0; i < 3; i++)
                for (int j = 0; j < 3; j++)
                    for (long k = 0; k < s.inputs; k += LANES, weights += CHANNELS * LANES) {
                        const float *from = lines + i * length + (left + j) * s.inputs + k;
#pragma GCC unroll 4
                        for (int p = 0; p < PIXELS; p++)
#pragma GCC unroll 3
                            for (int c = 0; c < CHANNELS; c++)
                                sum[p][c] += load(from + p * s.inputs) * load(weights + c * LANES);
                    }
            const long count = std::min<long>(PIXELS, s.width - left);
            float *to = y + (line * s.width + left) * CHANNELS;
            for (int p = 0; p < count; p++)
                for (int c = 0; c < CHANNELS; c++) *to++ = total(sum[p][c]);
        }
    });
}

}  // namespace
