// Convolutions of 1x1: matrix products, and what follows them, on the pixels as they are.

#pragma once

#include "after.h"
#include "kept.h"
#include "product.h"

#include <algorithm>
#include <cstring>

namespace {

// y of x by u, as in `convolve`. Of the larger pixels every second one each way is read with `FROM`
// of 2, and written with `TO` of 2: the backward pass of the first, in which to the pixels between
// comes only what follows.
template <int FROM, int TO, int VECTORS, int ROWS, class Number>
void mix(const Shape &s, const Number *x, const Number *u, Number *y,
         const After<Number> &given) {
    constexpr int WIDTH = VECTORS * LANES, BLOCK = 4 * DOZEN, STEP = FROM * TO;
    static_assert(BLOCK % ROWS == 0, "a block must be whole for every product");
    const long across = (s.width + STEP - 1) / STEP, down = (s.height + STEP - 1) / STEP;
    const long pixels = s.n * down * across, pieces = s.inputs / LANES;
#pragma omp parallel
    {
        const After<Number> after = given;  // a copy, which no store can change
        // Rows that no pixel fills hold what was there before.
        static thread_local Kept<Number> kept;
        Number *const v = kept.get(BLOCK * s.inputs);
        long larger[BLOCK];
#pragma omp for schedule(static)
        for (long first = 0; first < pixels; first += BLOCK) {
            const long count = std::min<long>(BLOCK, pixels - first);
            for (long t = 0; t < count; t++) {
                const long line = (first + t) / across, left = (first + t) % across;
                const long top = line / down * s.height + STEP * (line % down);
                larger[t] = top * s.width + STEP * left;
                const Number *from = x + (TO == 1 ? larger[t] : first + t) * s.inputs;
                Number *row = v + t / ROWS * ROWS * s.inputs + t % ROWS * LANES;
                for (long c = 0; c < s.inputs; c += LANES)
                    std::memcpy(row + c * ROWS, from + c, LANES * sizeof(Number));
            }
            for (long k = 0; k < s.outputs; k += WIDTH)
                for (long t = 0; t < count; t += ROWS) {
                    Vector sum[ROWS][VECTORS] = {};
                    const Number *left = v + t * s.inputs, *right = u + k * s.inputs;
                    for (long piece = 0; piece < pieces; piece++, left += ROWS * LANES) {
                        add(sum, left, right);
                        right += LANES * WIDTH;
                    }
#pragma GCC unroll 12
                    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
                        for (int i = 0; i < VECTORS; i++)
                            if (t + r < count)
                                after(sum[r][i], y,
                                      (FROM == 1 ? larger[t + r] : first + t + r) * s.outputs,
                                      k + i * LANES);
                }
            for (long t = 0; TO == 2 && t < count; t++)
                for (int part = 1; part < 4; part++) {
                    const long left = larger[t] % s.width + part % 2;
                    const long top = larger[t] / s.width % s.height + part / 2;
                    if (left == s.width || top == s.height) continue;
                    const long pixel = larger[t] + part / 2 * s.width + part % 2;
                    for (long k = 0; k < s.outputs; k += LANES)
                        after(Vector{}, y, pixel * s.outputs, k);
                }
        }
    }
}

}  // namespace
