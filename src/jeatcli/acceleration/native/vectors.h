// Numbers side by side, in float32 or, in memory, in bfloat16.

#pragma once

#if defined(__AVX512F__)
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

// All arrays of pixels are (n, height, width, channels). With a stride of 2, these are the height
// and the width of the larger ones.
struct Shape {
    long n, height, width, inputs, outputs;
};

}  // namespace
