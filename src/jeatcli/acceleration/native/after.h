// What a network does to the result of a convolution at once.

#pragma once

#include "silu.h"

namespace {

// What is done to the result while it is in registers; where a pointer is null, nothing.
template <class Number>
struct After {
    const float *bias;       // one for each output, added
    const Number *residual;  // as y, added
    const Number *cut;       // as y; where it is not positive, the result becomes zero
    const Number *slope;     // as y, multiplied
    const float *scale;      // one for each output, multiplied
    const Number *more;      // as y, added to the product
    // Of a second result, the ReLU of a multiple and a sum; backward with SiLU, of `cut`.
    const float *scale_too, *shift_too;
    Number *too;
    // As y, but a bit for each number: where it is 0, the result becomes zero; and where those of
    // the last ReLU go, of `too` or else of y.
    const Bits *mask;
    Bits *positive;
    long relu;  // whether what is negative becomes zero, before anything is cut
    // Whether the second result is the SiLU; backward, whether its slope is multiplied, which is
    // `slope` or that at `cut`.
    long silu;
    long keep_slope;  // whether y becomes the slope of that SiLU

    // Finish and store the values of the outputs from `k` on, of a pixel whose outputs begin there.
    void operator()(Vector value, Number *y, long pixel, long k) const {
        // As `all` does, but straight, and with SiLU apart: this code is repeated for each of many
        // pixels, where either costs up to a fifth of the time of a network.
        if (__builtin_expect(silu, 0)) return one_apart(*this, value, y, pixel, k);
        const long place = pixel + k;
        if (bias) value += load(bias + k);
        if (residual) value += load(residual + place);
        if (relu) value = value < 0 ? Vector{} : value;
        if (cut) value = load(cut + place) <= 0 ? Vector{} : value;
        if (mask) value = masked(value, mask[place / LANES]);
        if (scale || more) {
            const Vector sum = more ? load(more + place) : Vector{};
            value = scale ? value * load(scale + k) + sum : value + sum;
        }
        if (y) store(y + place, value);
        if (too) {
            if (scale_too) value = normalised(value, k);
            store(too + place, value < 0 ? Vector{} : value);
        }
        if (positive) positive[place / LANES] = ::positive(value);
    }

    // The same of several pixels, of which those are stored that have their bit in `valid`; the
    // others' outputs must begin where there is memory.
    template <int COUNT, bool SILU>
    inline __attribute__((always_inline)) void all(Vector (&value)[COUNT], Number *y, const long *pixel, long k,
             unsigned valid = (1u << COUNT) - 1) const {
        if (bias) each<COUNT>([&](int i) { value[i] += load(bias + k); });
        if (residual) each<COUNT>([&](int i) { value[i] += load(residual + pixel[i] + k); });
        if (relu) each<COUNT>([&](int i) { value[i] = value[i] < 0 ? Vector{} : value[i]; });
        if (cut) pass<COUNT, SILU>(value, pixel, k);
        if (SILU && slope) each<COUNT>([&](int i) { value[i] *= load(slope + pixel[i] + k); });
        if (mask)
            each<COUNT>([&](int i) {
                value[i] = masked(value[i], mask[(pixel[i] + k) / LANES]);
            });
        // In one expression: a product in one branch and a sum in another would be rounded once
        // for some pixels of a block and twice for others.
        if (scale || more)
            each<COUNT>([&](int i) {
                const Vector sum = more ? load(more + pixel[i] + k) : Vector{};
                value[i] = scale ? value[i] * load(scale + k) + sum : value[i] + sum;
            });
        const auto put = [&](Number *to) {
            each<COUNT>([&](int i) {
                if (valid >> i & 1) store(to + pixel[i] + k, value[i]);
            });
        };
        if (y && !keep_slope) put(y);
        if (too) {
            if (scale_too) each<COUNT>([&](int i) { value[i] = normalised(value[i], k); });
            if (SILU)
                activate<COUNT>(value, [&](int i, Vector slope) {
                    if (keep_slope && valid >> i & 1) store(y + pixel[i] + k, slope);
                });
            else
                each<COUNT>([&](int i) { value[i] = value[i] < 0 ? Vector{} : value[i]; });
            put(too);
        }
        if (positive)
            each<COUNT>([&](int i) {
                if (valid >> i & 1) positive[(pixel[i] + k) / LANES] = ::positive(value[i]);
            });
    }

    // The same of several pixels with SiLU, which at once take half the time; those that have no bit
    // in `valid` need no memory. It is called for a copy: an address that is known elsewhere might be
    // that of a store.
    // Cold, so that registers are saved where it is called and nowhere else; what it calls is hot, as
    // what is cold is optimised for size.
    template <int COUNT>
    __attribute__((noinline, cold)) void some(const Vector *value, Number *y, const long *pixels,
                                              long k, unsigned valid) const {
        some_with_silu<COUNT>(value, y, pixels, k, valid);
    }

  private:
    template <int COUNT>
    __attribute__((noinline, hot)) void some_with_silu(const Vector *value, Number *y,
                                                  const long *pixels, long k,
                                                  unsigned valid) const {
        Vector values[COUNT];
        long places[COUNT];
        for (int i = 0; i < COUNT; i++) {
            values[i] = value[i];
            places[i] = pixels[valid >> i & 1 ? i : __builtin_ctz(valid)];
        }
        all<COUNT, true>(values, y, places, k, valid);
    }

    static __attribute__((noinline, cold)) void one_apart(After after, Vector value, Number *y,
                                                          long pixel, long k) {
        after.template some_with_silu<1>(&value, y, &pixel, k, 1);
    }

    // Take values to their SiLU; put(number, slope).
    template <int COUNT, class Put>
    static inline void activate(Vector (&value)[COUNT], const Put &put) {
        Vector share[COUNT];
        each<COUNT>([&](int i) { share[i] = logistic<Number>(value[i]); });
        each<COUNT>([&](int i) {
            put(i, slope_of(value[i], share[i]));
            value[i] *= share[i];
        });
    }

    Vector normalised(Vector value, long k) const {
        return value * load(scale_too + k) + load(shift_too + k);
    }

    // Let the gradient pass the activation.
    template <int COUNT, bool SILU>
    inline void pass(Vector (&value)[COUNT], const long *pixel, long k) const {
        if (!SILU) {
            each<COUNT>([&](int i) {
                value[i] = load(cut + pixel[i] + k) <= 0 ? Vector{} : value[i];
            });
            return;
        }
        each<COUNT>([&](int i) {
            const Vector given = load(cut + pixel[i] + k);
            value[i] *= silu_slope<Number>(scale_too ? normalised(given, k) : given);
        });
    }

    template <int COUNT, class Do>
    static inline void each(const Do &run) {
#pragma GCC unroll 16
        for (int i = 0; i < COUNT; i++) run(i);
    }
};

}  // namespace
