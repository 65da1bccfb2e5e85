// The weights of 3x3 convolutions at Winograd's points, as `convolve` reads them, and the gradient
// by them from what it is at the points.

#pragma once

#include "product.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

namespace {

// Which points weights go to, along both axes, and how far these lie apart in memory: of one kind
// of row and one of column.
struct Points {
    const float *down, *across;         // (side, 3) each: weights to points
    const int32_t *slot;                // of each point among `slots`, negative where all is zero
    long output, input, row, column;    // from a weight to the next one
    long side, slots;
    long add;  // whether the gradient is added to what is there
};

// Inputs that are taken together: what lies between the steps stays in the cache.
constexpr long INPUTS = 8;

// Three weights each way, of an input and as many outputs as a vector has.
inline void load_taps(const float *w, const Points &p, Vector (&taps)[9]) {
    float each[9][LANES];
    for (long lane = 0; lane < LANES; lane++, w += p.output)
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++) each[3 * i + j][lane] = w[i * p.row + j * p.column];
    for (int i = 0; i < 9; i++) taps[i] = load(each[i]);
}

inline void store_taps(float *w, const Points &p, const Vector (&taps)[9]) {
    float each[9][LANES];
    for (int i = 0; i < 9; i++) store(each[i], taps[i]);
    for (long lane = 0; lane < LANES; lane++, w += p.output)
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++) {
                float &to = w[i * p.row + j * p.column];
                to = each[3 * i + j][lane] + (p.add ? to : 0.f);
            }
}

// Some inputs at a point, of `width` outputs each, from where they were made to where they belong.
inline void put(const float *from, float *u, long width) {
    std::memcpy(u, from, INPUTS * width * sizeof *u);
}

// In bfloat16 two inputs lie side by side for each output.
inline void put(const float *from, Bfloat16 *u, long width) {
    for (long c = 0; c < INPUTS; c += 2)
        for (long k = 0; k < width; k += LANES, u += 2 * LANES) {
            const Words first = rounded(load(from + c * width + k)) >> 16;
            const Words second = rounded(load(from + (c + 1) * width + k)) & 0xffff0000u;
            store((float *)u, (Vector)(first | second));
        }
}

// u, panel after panel of outputs, point after point (inputs, outputs of the panel).
template <int SIDE, class Number>
void to_points(const float *w, const Points &p, Number *u, long inputs, long outputs) {
    const long width = vectors(outputs) * LANES, piece = INPUTS * width;
#pragma omp parallel
    {
        std::vector<float> made(SIDE * SIDE * piece);
#pragma omp for collapse(2)
        for (long k = 0; k < outputs; k += width)
            for (long c = 0; c < inputs; c += INPUTS) {
                for (long at = 0; at < piece; at += LANES) {
                    Vector taps[9], half[3 * SIDE];
                    const long input = c + at / width, output = k + at % width;
                    load_taps(w + output * p.output + input * p.input, p, taps);
                    for (int i = 0; i < SIDE; i++)
#pragma GCC unroll 3
                        for (int j = 0; j < 3; j++)
                            half[3 * i + j] = p.down[3 * i] * taps[j] +
                                              p.down[3 * i + 1] * taps[3 + j] +
                                              p.down[3 * i + 2] * taps[6 + j];
                    for (int i = 0; i < SIDE; i++)
                        for (int j = 0; j < SIDE; j++)
                            store(&made[(SIDE * i + j) * piece + at],
                                  p.across[3 * j] * half[3 * i] +
                                      p.across[3 * j + 1] * half[3 * i + 1] +
                                      p.across[3 * j + 2] * half[3 * i + 2]);
                }
                for (int i = 0; i < SIDE * SIDE; i++)
                    if (p.slot[i] >= 0)
                        put(&made[i * piece],
                            u + ((k / width * p.slots + p.slot[i]) * inputs + c) * width, width);
            }
    }
}

// The gradient by the weights, of `sums` at the points (inputs, outputs).
template <int SIDE>
void from_points(const float *sums, const Points &p, float *w, long inputs, long outputs) {
#pragma omp parallel for
    for (long c = 0; c < inputs; c++)
        for (long k = 0; k < outputs; k += LANES) {
            Vector taps[9] = {};
            for (int i = 0; i < SIDE; i++) {
                Vector half[3] = {};
                for (int j = 0; j < SIDE; j++) {
                    const long slot = p.slot[SIDE * i + j];
                    if (slot < 0) continue;
                    const Vector sum = load(sums + (slot * inputs + c) * outputs + k);
                    for (int b = 0; b < 3; b++) half[b] += p.across[3 * j + b] * sum;
                }
                for (int a = 0; a < 3; a++)
                    for (int b = 0; b < 3; b++) taps[3 * a + b] += p.down[3 * i + a] * half[b];
            }
            store_taps(w + k * p.output + c * p.input, p, taps);
        }
}

// Run with the number of points along an axis, one of two, as a type.
template <int SMALL, int LARGE, class Do>
void with_side(long side, const Do &run) {
    side == SMALL ? run(std::integral_constant<int, SMALL>())
                  : run(std::integral_constant<int, LARGE>());
}

}  // namespace
