// SiLU (Elfwing et al. 2018; Hendrycks and Gimpel 2016), u times its logistic function, and its
// slope, of numbers side by side.

#pragma once

#include "vectors.h"

namespace {

typedef int Integers __attribute__((vector_size(4 * LANES), may_alias));

// 2 to the power of a whole number that was added to `ROUNDING`, times a number near 1.
constexpr float ROUNDING = 12582912;  // 1.5 * 2**23: sums with it are whole
inline Vector times_power(Vector near, Vector whole) {
    const Integers power = (Integers)whole - (Integers)(Vector{} + ROUNDING);
    return (Vector)((Integers)near + (power << 23));
}

// exp(-u), to some units in the last place of a number of that type, for u from -88.5 to 87. Of NaN
// it is any number.
template <class Number>
inline Vector decay(Vector u) {
    const Vector most = Vector{} + 88.5f, least = Vector{} - 87;
    Vector x = -u > most ? most : -u;
    x = x < least ? least : x;
    const Vector whole = x * 1.44269504f + ROUNDING, n = whole - ROUNDING;
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
        power = f * 0.00133336f + 0.00961813f;
        power = power * f + 0.05550411f;
        power = power * f + 0.24022651f;
        power = power * f + 0.69314718f;
        power = power * f + 1.f;
    }
    return times_power(power, whole);
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
inline Vector logistic(Vector u) {
    const Vector found = reciprocal(1 + decay<Number>(u));
    return u < -88.5f ? Vector{} : found;
}

template <class Number>
inline Vector silu(Vector u) {
    return u * logistic<Number>(u);
}

template <class Number>
inline Vector silu_slope(Vector u) {
    const Vector share = logistic<Number>(u);
    return share * (1 + u * (1 - share));
}

}  // namespace
