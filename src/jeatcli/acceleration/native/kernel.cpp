// The kernel's functions, as Python calls them.

#include "after.h"
#include "amx_functions.h"
#include "norm.h"
#include "point.h"
#include "replay.h"
#include "stem.h"
#include "weights.h"
#include "wgrad.h"
#include "winograd.h"

// How many channels are taken at once: a layer's must be a multiple.
extern "C" long lanes() { return LANES; }

// How many outputs lie side by side in `u`, for a layer of so many.
extern "C" long panel(long outputs) { return vectors(outputs) * LANES; }

// So many calls, of n images in these blocks of memory.
extern "C" void replay(const Call *calls, void *const *blocks, long count, long n) {
    for (long i = 0; i < count; i++) replay(calls[i], blocks, n);
}

namespace {

template <class Number>
void finish_all(const Number *x, Number *y, const After<Number> &after, long pixels,
                long channels) {
    constexpr int EACH = 4;
#pragma omp parallel for
    for (long first = 0; first < pixels; first += EACH) {
        const int there = std::min<long>(EACH, pixels - first);
        for (long k = 0; k < channels; k += LANES) {
            Vector value[EACH] = {};
            long pixels[EACH];
            for (int i = 0; i < EACH; i++) pixels[i] = (first + i) * channels;
            for (int i = 0; i < there; i++) value[i] = load(x + pixels[i] + k);
            if (after.silu)
                after.template some<EACH>(value, y, pixels, k, (1u << there) - 1);
            else
                for (int i = 0; i < there; i++) after(value[i], y, pixels[i], k);
        }
    }
}

}  // namespace

// FUNCTION is a template whose last arguments are the vectors and rows of a panel.
#define CONVOLUTION(NAME, NUMBER, FUNCTION, ...)                                                 \
    extern "C" void NAME(const NUMBER *x, const NUMBER *u, NUMBER *y,                            \
                         const After<NUMBER> *after, long n, long height, long width,            \
                         long inputs, long outputs) {                                            \
        const Shape s = {n, height, width, inputs, outputs};                                     \
        with_panel(outputs, [&](auto panel) {                                                    \
            FUNCTION<__VA_ARGS__, panel.VECTORS, panel.ROWS>(s, x, u, y, *after);                \
        });                                                                                      \
    }

#define FINISH(NAME, NUMBER)                                                                     \
    extern "C" void NAME(const NUMBER *x, NUMBER *y, const After<NUMBER> *after, long pixels,    \
                         long channels) {                                                        \
        finish_all(x, y, *after, pixels, channels);                                              \
    }

// The pixels are float, whatever the result.
#define STEM(NAME, NUMBER)                                                                       \
    extern "C" void NAME(const float *x, const float *u, NUMBER *y, const After<NUMBER> *after,  \
                         long n, long height, long width, long inputs, long outputs) {           \
        const Shape s = {n, height, width, inputs, outputs};                                     \
        inputs == 1 ? stem<1>(s, x, u, y, *after) : stem<3>(s, x, u, y, *after);                 \
    }

#define STEM_BACK(NAME, NUMBER)                                                                  \
    extern "C" void NAME(const NUMBER *x, const float *u, float *y, const After<float> *,        \
                         long n, long height, long width, long inputs, long outputs) {           \
        const Shape s = {n, height, width, inputs, outputs};                                     \
        outputs == 1 ? stem_back<1>(s, x, u, y) : stem_back<3>(s, x, u, y);                      \
    }

#define WGRAD(NAME, NUMBER, ...)                                                                 \
    extern "C" void NAME(const NUMBER *x, const NUMBER *y, float *u, long n, long height,        \
                         long width, long inputs, long outputs) {                                \
        wgrad<__VA_ARGS__>({n, height, width, inputs, outputs}, x, y, u);                        \
    }

#define TO_POINTS(NAME, NUMBER, SMALL, LARGE)                                                    \
    extern "C" void NAME(const float *w, const Points *points, NUMBER *u, long inputs,           \
                         long outputs) {                                                         \
        with_side<SMALL, LARGE>(points->side, [&](auto side) {                                   \
            to_points<side>(w, *points, u, inputs, outputs);                                     \
        });                                                                                      \
    }

#define NORM(NAME, NUMBER)                                                                       \
    extern "C" void NAME(const NUMBER *x, NUMBER *y, const Norm<NUMBER> *norm, long pixels,      \
                         long channels) {                                                        \
        with_layer(norm->activation, channels, [&](auto silu, auto wide) {                       \
            normalise<silu, wide>({pixels, channels}, x, y, *norm);                              \
        });                                                                                      \
    }

#define NORM_BACK(NAME, NUMBER)                                                                  \
    extern "C" void NAME(const NUMBER *x, const Norm<NUMBER> *norm,                              \
                         const Slopes<NUMBER> *slopes, long pixels, long channels) {             \
        with_layer(norm->activation, channels, [&](auto silu, auto wide) {                       \
            differentiate<silu, wide>({pixels, channels}, x, *norm, *slopes);                    \
        });                                                                                      \
    }

// y (n, height, width, outputs) of x (n, height, width, inputs); of the transformed weights u,
// panel after panel of outputs, in each all that a point has, point after point.
CONVOLUTION(same, float, convolve, Same<4>)
// With a stride of 2 y has half the height and width, rounded up; backward it is x that has them,
// and in u part follows part.
CONVOLUTION(down, float, convolve, Down<4>)
CONVOLUTION(up, float, convolve, Up<4>)
// 1x1.
CONVOLUTION(point, float, mix, 1, 1)
CONVOLUTION(point_down, float, mix, 2, 1)
CONVOLUTION(point_up, float, mix, 1, 2)
// 3x3 of one channel or of three, forward, and the gradient by these.
STEM(stem, float)
STEM_BACK(stem_back, float)
// The gradient by the weights u, point after point (inputs, outputs), of x and of the gradient y by
// the result.
WGRAD(same_wgrad, float, Same<4>)
WGRAD(down_wgrad, float, Down<4>)
// In bfloat16, too, the sums are of floats, whose rounding allows for the larger tiles.
WGRAD(same_wgrad_bf16, Bfloat16, Same<4>)
WGRAD(down_wgrad_bf16, Bfloat16, Down<4>)
// What is done after a convolution, to x (pixels, channels) as it is; y may be null.
FINISH(finish, float)

// Weights w (outputs, inputs, 3, 3), which may lie in any order, at points; and back.
TO_POINTS(to_points, float, 5, 6)
TO_POINTS(to_points_bf16, Bfloat16, 3, 4)
extern "C" void from_points(const float *sums, const Points *points, float *w, long inputs,
                            long outputs) {
    with_side<5, 6>(points->side,
                    [&](auto side) { from_points<side>(sums, *points, w, inputs, outputs); });
}
// y (pixels, channels), the normalisation of x and what follows; and the gradients.
NORM(norm, float)
NORM(norm_bf16, Bfloat16)
NORM_BACK(norm_back, float)
NORM_BACK(norm_back_bf16, Bfloat16)

#if defined(__AVX512BF16__)
// The same in bfloat16; bias, scales and shift are float.
CONVOLUTION(same_bf16, Bfloat16, convolve, Same<2>)
CONVOLUTION(down_bf16, Bfloat16, convolve, Down<2>)
CONVOLUTION(up_bf16, Bfloat16, convolve, Up<2>)
CONVOLUTION(point_bf16, Bfloat16, mix, 1, 1)
CONVOLUTION(point_down_bf16, Bfloat16, mix, 2, 1)
CONVOLUTION(point_up_bf16, Bfloat16, mix, 1, 2)
STEM(stem_bf16, Bfloat16)
STEM_BACK(stem_back_bf16, Bfloat16)
FINISH(finish_bf16, Bfloat16)
#endif
