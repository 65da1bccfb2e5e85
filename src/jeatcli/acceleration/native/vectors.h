// Numbers side by side, in float32 or, in memory, in bfloat16.

#pragma once

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include <cstdint>

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif

typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline Vector load(const float *from) { return *reinterpret_cast<const Vector *>(from); }
inline void store(float *to, Vector value) { *reinterpret_cast<Vector *>(to) = value; }

// The upper half of a float. Registers hold floats either way.
struct Bfloat16 {
    uint16_t bits;
};

typedef uint32_t Words __attribute__((vector_size(4 * LANES)));

// Bits whose upper half is the nearest bfloat16.
inline Words rounded(Vector value) {
    const Words bits = (Words)value;
    // Rounding would make an infinity of some that are no numbers.
    return value == value ? bits + 0x7fff + (bits >> 16 & 1) : bits | 1 << 22;
}

#if defined(__AVX512BF16__)
inline Vector load(const Bfloat16 *from) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from));
    return (Vector)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
}
inline void store(Bfloat16 *to, Vector value) {
    const __m256i half = (__m256i)_mm512_cvtneps_pbh((__m512)value);
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), half);
}
#else
typedef uint16_t Halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

inline Vector load(const Bfloat16 *from) {
    return (Vector)(__builtin_convertvector(*reinterpret_cast<const Halves *>(from), Words) << 16);
}
inline void store(Bfloat16 *to, Vector value) {
    *reinterpret_cast<Halves *>(to) = __builtin_convertvector(rounded(value) >> 16, Halves);
}
#endif

// A bit for each number of a vector: whether it is not 0 or less, which no NaN is.
#if defined(__AVX512F__)
typedef uint16_t Bits;
inline Bits positive(Vector value) {
    return _mm512_cmp_ps_mask((__m512)value, (__m512)Vector{}, _CMP_NLE_UQ);
}
// The numbers that have their bit, and zero for the others.
inline Vector masked(Vector value, Bits bits) {
    return (Vector)_mm512_maskz_mov_ps(bits, (__m512)value);
}
#else
typedef uint8_t Bits;
constexpr Words PLACES = {1, 2, 4, 8, 16, 32, 64, 128};
inline Bits positive(Vector value) {
#if defined(__AVX__)
    return _mm256_movemask_ps(_mm256_cmp_ps((__m256)value, (__m256)Vector{}, _CMP_NLE_UQ));
#else
    Bits bits = 0;
    for (int l = 0; l < LANES; l++) bits |= !(value[l] <= 0) << l;
    return bits;
#endif
}
inline Vector masked(Vector value, Bits bits) {
    return (PLACES & bits) != 0 ? value : Vector{};
}
#endif

// All arrays of pixels are (n, height, width, channels). With a stride of 2, these are the height
// and the width of the larger ones.
struct Shape {
    long n, height, width, inputs, outputs;
};

}  // namespace
