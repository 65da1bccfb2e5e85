// Rows times weights, the sums in registers.

#pragma once

#include "vectors.h"

namespace {

// Tiles and pixels are taken by the dozen, which every `ROWS` below divides.
constexpr long DOZEN = 12;

// What one piece of the inputs, `left`, adds: one number of each row, times a row of u.
template <int VECTORS, int ROWS>
inline void add(Vector (&sum)[ROWS][VECTORS], const float *left, const float *u) {
    for (long c = 0; c < LANES; c++, u += VECTORS * LANES) {
        Vector right[VECTORS];
#pragma GCC unroll 4
        for (int k = 0; k < VECTORS; k++) right[k] = load(u + k * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
            for (int k = 0; k < VECTORS; k++) sum[r][k] += left[r * LANES + c] * right[k];
    }
}

#if defined(__AVX512BF16__)
// The same in bfloat16, whose instruction multiplies two neighbours at once and adds up in float:
// of u, two inputs lie side by side for each output.
template <int VECTORS, int ROWS>
inline void add(Vector (&sum)[ROWS][VECTORS], const Bfloat16 *left, const Bfloat16 *u) {
    for (long c = 0; c < LANES; c += 2, u += 2 * VECTORS * LANES) {
        __m512bh right[VECTORS];
#pragma GCC unroll 4
        for (int k = 0; k < VECTORS; k++)
            right[k] = (__m512bh)_mm512_loadu_si512(u + 2 * k * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; r++) {
            int pair;
            __builtin_memcpy(&pair, left + r * LANES + c, sizeof pair);
            const __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 4
            for (int k = 0; k < VECTORS; k++)
                sum[r][k] = (Vector)_mm512_dpbf16_ps((__m512)sum[r][k], both, right[k]);
        }
    }
}
#endif

// How many outputs lie side by side in the weights, for a layer of so many, in vectors; and of how
// many rows the sums then fill the registers.
template <int VECTORS_, int ROWS_>
struct Panel {
    static constexpr int VECTORS = VECTORS_, ROWS = ROWS_;
};

inline long vectors(long outputs) {
    const long most = LANES == 16 ? 4 : 2;
    for (long count = most; count > 1; count /= 2)
        if (outputs % (count * LANES) == 0) return count;
    return 1;
}

template <class Do>
void with_panel(long outputs, const Do &run) {
    switch (vectors(outputs)) {
#if defined(__AVX512F__)
        case 4: return run(Panel<4, 6>());
        case 2: return run(Panel<2, 12>());
#else
        case 2: return run(Panel<2, 6>());
#endif
        default: return run(Panel<1, 12>());
    }
}

}  // namespace
