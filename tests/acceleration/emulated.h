// AVX-512, its bfloat16 and matrix tiles in plain C++, as far as the kernel uses them: included
// before it, they let what is written for them run on any x86 processor, for tests.

#pragma once

// The types are there without the instructions. What follows must not look like a processor that
// has them until all headers are read.
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace emulated {

typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

inline __m512i words(__m256i halves) {
    return (__m512i)__builtin_convertvector((Halves)halves, Words);
}
inline __m512i shift_left(__m512i words, int bits) { return (__m512i)((Words)words << bits); }

// To the nearest bfloat16; what is too small to be normal becomes zero.
inline __m256i round(__m512 value) {
    const Words bits = (Words)value, nearest = bits + 0x7fff + (bits >> 16 & 1);
    const Words normal = (bits & 0x7f800000) ? nearest : bits & 0x80000000;
    return (__m256i)__builtin_convertvector((value == value ? normal : bits | 1 << 22) >> 16,
                                            Halves);
}

template <class Vector>
inline Vector read(const void *from) {
    Vector vector;
    std::memcpy(&vector, from, sizeof vector);
    return vector;
}

inline void write(void *to, __m512i vector) {
    if (uintptr_t(to) % 64) std::abort();
    std::memcpy(to, &vector, sizeof vector);
}

inline __m512i join(__m512i left, __m256i right) {
    std::memcpy(reinterpret_cast<char *>(&left) + 32, &right, 32);
    return left;
}
inline __m512i widen(__m256i left) {
    __m512i both = {};
    std::memcpy(&both, &left, 32);
    return both;
}
inline __m512i permute(__m512i first, __m512i places, __m512i second) {
    uint32_t words[32];
    std::memcpy(words, &first, 64);
    std::memcpy(words + 16, &second, 64);
    Words permuted;
    for (int i = 0; i < 16; i++) permuted[i] = words[((Words)places)[i] % 32];
    return (__m512i)permuted;
}
inline __m512i repeat(int word) { return (__m512i)(Words{} + uint32_t(word)); }

// The products of the lower halves, and of the upper ones, added.
inline __m512 dot(__m512 sum, __m512bh left, __m512bh right) {
    const Words a = (Words)left, b = (Words)right;
    sum += (__m512)(a & 0xffff0000) * (__m512)(b & 0xffff0000);
    return sum + (__m512)(a << 16) * (__m512)(b << 16);
}

// To 14 bits.
inline __m512 reciprocal(__m512 x) { return (__m512)((Words)(1 / x) & 0xfffffe00); }

inline float total(__m512 x) {
    float sum = 0;
    for (int i = 0; i < 16; i++) sum += x[i];
    return sum;
}

// A bit for each number that is not at most the other; and the numbers that have a bit.
inline uint16_t above(__m512 left, __m512 right, int comparison) {
    if (comparison != _CMP_NLE_UQ) std::abort();
    uint16_t bits = 0;
    for (int i = 0; i < 16; i++) bits |= !(left[i] <= right[i]) << i;
    return bits;
}
inline __m512 masked(uint16_t bits, __m512 x) {
    for (int i = 0; i < 16; i++) x[i] = bits >> i & 1 ? x[i] : 0;
    return x;
}

// Eight matrices of 16 rows of 64 bytes.
struct Tiles {
    bool ready = false;
    alignas(64) __m512 row[8][16];
};
inline Tiles &tiles() {
    static thread_local Tiles these;
    return these;
}

inline void set_up(const void *configuration) {
    const auto *bytes = static_cast<const uint8_t *>(configuration);
    const auto *width = reinterpret_cast<const uint16_t *>(bytes + 16);
    bool fits = bytes[0] == 1 && bytes[1] == 0;
    for (int t = 0; t < 8; t++) fits = fits && width[t] == 64 && bytes[48 + t] == 16;
    if (!fits) std::abort();
    tiles().ready = true;
}
inline void release() { tiles().ready = false; }

inline __m512 *tile(int t) {
    if (!tiles().ready) std::abort();
    return tiles().row[t];
}
inline void zero(int t) { std::memset(tile(t), 0, 1024); }
inline void load(int t, const void *from, long stride) {
    for (int r = 0; r < 16; r++)
        std::memcpy(tile(t) + r, static_cast<const char *>(from) + r * stride, 64);
}
inline void store(int t, void *to, long stride) {
    for (int r = 0; r < 16; r++)
        std::memcpy(static_cast<char *>(to) + r * stride, tile(t) + r, 64);
}
inline void multiply(int sum, int left, int right) {
    __m512 *const c = tile(sum), *const a = tile(left), *const b = tile(right);
    for (int r = 0; r < 16; r++)
        for (int k = 0; k < 16; k++) {
            uint32_t pair;
            std::memcpy(&pair, reinterpret_cast<const char *>(a + r) + 4 * k, 4);
            c[r] = dot(c[r], (__m512bh)repeat(int(pair)), (__m512bh)b[k]);
        }
}

}  // namespace emulated

#undef _mm512_cvtepu16_epi32
#define _mm512_cvtepu16_epi32 emulated::words
#undef _mm512_slli_epi32
#define _mm512_slli_epi32 emulated::shift_left
#undef _mm512_cvtneps_pbh
#define _mm512_cvtneps_pbh emulated::round
#undef _mm512_loadu_si512
#define _mm512_loadu_si512 emulated::read<__m512i>
#undef _mm256_loadu_si256
#define _mm256_loadu_si256 emulated::read<__m256i>
#undef _mm512_store_si512
#define _mm512_store_si512 emulated::write
#undef _mm512_inserti64x4
#define _mm512_inserti64x4(left, right, place) emulated::join(left, right)
#undef _mm512_zextsi256_si512
#define _mm512_zextsi256_si512 emulated::widen
#undef _mm512_permutex2var_epi32
#define _mm512_permutex2var_epi32 emulated::permute
#undef _mm512_set1_epi32
#define _mm512_set1_epi32 emulated::repeat
#undef _mm512_dpbf16_ps
#define _mm512_dpbf16_ps emulated::dot
#undef _mm512_rcp14_ps
#define _mm512_rcp14_ps emulated::reciprocal
#undef _mm512_reduce_add_ps
#define _mm512_reduce_add_ps emulated::total
#undef _mm512_cmp_ps_mask
#define _mm512_cmp_ps_mask emulated::above
#undef _mm512_maskz_mov_ps
#define _mm512_maskz_mov_ps emulated::masked
#undef _tile_loadconfig
#define _tile_loadconfig emulated::set_up
#undef _tile_release
#define _tile_release emulated::release
#undef _tile_zero
#define _tile_zero emulated::zero
#undef _tile_loadd
#define _tile_loadd emulated::load
#undef _tile_stored
#define _tile_stored emulated::store
#undef _tile_dpbf16ps
#define _tile_dpbf16ps emulated::multiply
// The system lets every process use these.
#define syscall(...) 0L

#define __AVX512F__ 1
#define __AVX512BF16__ 1
#define __AMX_BF16__ 1
