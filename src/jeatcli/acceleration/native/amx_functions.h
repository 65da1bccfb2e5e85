// The functions of the processor's tiles, as Python calls them.

#pragma once

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)

#include "amx.h"
#include "amx_wgrad.h"

// Whether this process may use the processor's tiles, which has to be asked before they are used.
extern "C" bool ask_for_amx() { return ask_for_tiles(); }

#define TILED(NAME, ...)                                                                         \
    extern "C" void NAME(const Bfloat16 *x, const Bfloat16 *u, Bfloat16 *y,                      \
                         const After<Bfloat16> *after, long n, long height, long width,          \
                         long inputs, long outputs) {                                            \
        convolve_tiles<__VA_ARGS__>({n, height, width, inputs, outputs}, x, u, y, *after);       \
    }

// 3x3 and 1x1 by tiles of the processor's; of the weights u, panel after panel of 16 outputs, in each
// plane after plane of 32 inputs.
TILED(amx_same_bf16, Plain<3>)
TILED(amx_down_bf16, Halved<3>)
TILED(amx_up_bf16, Doubled<3>)
TILED(amx_point_bf16, Plain<1>)
TILED(amx_point_down_bf16, Halved<1>)
TILED(amx_point_up_bf16, Doubled<1>)

#define TILED_WGRAD(NAME, ...)                                                                   \
    extern "C" void NAME(const Bfloat16 *x, const Bfloat16 *y, float *w, long n, long height,     \
                         long width, long inputs, long outputs) {                                \
        wgrad_tiles<__VA_ARGS__>({n, height, width, inputs, outputs}, x, y, w);                   \
    }

// The gradient by the weights w (outputs, inputs, 3, 3), of x and of the gradient y by the result.
TILED_WGRAD(amx_same_wgrad_bf16, Plain<3>)
TILED_WGRAD(amx_down_wgrad_bf16, Halved<3>)

#endif
