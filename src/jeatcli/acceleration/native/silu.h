// SiLU (Elfwing et al. 2018; Hendrycks and Gimpel 2016), u times its logistic function, and its
// slope, of numbers side by side.

#pragma once

#include "vectors.h"

namespace {

constexpr float ROUNDING = 12582912;  // 1.5 * 2**23: sums with it are whole

#if defined(__AVX512F__)
inline Vector clamped(Vector x, float least, float most) {
    return (Vector)_mm512_max_ps(_mm512_set1_ps(least), _mm512_min_ps((__m512)x, _mm512_set1_ps(most)));
}
// 2 to the power of a whole number, times a number near 1.
inline Vector times_power(Vector near, Vector whole) {
    return (Vector)_mm512_scalef_ps((__m512)near, (__m512)whole);
}
#else
inline Vector clamped(Vector x, float least, float most) {
    x = x > most ? Vector{} + most : x;
    return x < least ? Vector{} + least : x;
}
typedef int Integers __attribute__((vector_size(4 * LANES), may_alias));
inline Vector times_power(Vector near, Vector whole) {
    const Integers power = (Integers)(whole + ROUNDING) - (Integers)(Vector{} + ROUNDING);
    return (Vector)((Integers)near + (power << 23));
}
#endif

// exp(-u), to some units in the last place of a number of that type, for u from -88.5 to 87. Of NaN
// it is any number.
template <class Number>
inline __attribute__((always_inline)) Vector decay(Vector u) {
    const Vector x = clamped(-u, -87, 88.5f), n = x * 1.44269504f + ROUNDING - ROUNDING;
    Vector power;
    if constexpr (sizeof(Number) == sizeof(float)) {
        const Vector r = x - n * 0.693359375f + n * 2.12194440e-4f;
        power = r * (1.f / 5040) + 1.f / 720;
        power = power * r + 1.f / 120;
        power = power * r + 1.f / 24;
        power = power * r + 1.f / 6;
        power = power * r + 1.f / 2;
        power = power * r + 1.f;
        power = power * r + 1.f;
    } else {
        const Vector f = x * 1.44269504f - n;
        power = f * 0.0095701f + 0.05591786f;
        power = power * f + 0.24024745f;
        power = power * f + 0.69312181f;
        power = power * f + 0.99999926f;
    }
    return times_power(power, n);
}

inline Vector reciprocal(Vector x) {
#if defined(__AVX512F__)
    // A division takes as long as eight of these steps.
    const Vector near = (Vector)_mm512_rcp14_ps((__m512)x);
    return near * (2 - x * near);
#else
    return 1 / x;
#endif
}

// The logistic function.
template <class Number>
inline __attribute__((always_inline)) Vector logistic(Vector u) {
    const Vector found = reciprocal(1 + decay<Number>(u));
    return u < -88.5f ? Vector{} : found;
}

template <class Number>
inline Vector silu(Vector u) {
    return u * logistic<Number>(u);
}

inline Vector slope_of(Vector u, Vector share) { return share * (1 + u * (1 - share)); }

template <class Number>
inline Vector silu_slope(Vector u) {
    return slope_of(u, logistic<Number>(u));
}

}  // namespace
