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
    long silu;  // whether the second result is the SiLU, and its slope at `cut` is multiplied

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
    void all(Vector (&value)[COUNT], Number *y, const long *pixel, long k,
             unsigned valid = (1u << COUNT) - 1) const {
        if (bias) each<COUNT>([&](int i) { value[i] += load(bias + k); });
        if (residual) each<COUNT>([&](int i) { value[i] += load(residual + pixel[i] + k); });
        if (relu) each<COUNT>([&](int i) { value[i] = value[i] < 0 ? Vector{} : value[i]; });
        if (cut) pass<COUNT, SILU>(value, pixel, k);
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
        if (y) put(y);
        if (too) {
            if (scale_too) each<COUNT>([&](int i) { value[i] = normalised(value[i], k); });
            if (SILU)
                each<COUNT>([&](int i) { value[i] = ::silu<Number>(value[i]); });
            else
                each<COUNT>([&](int i) { value[i] = value[i] < 0 ? Vector{} : value[i]; });
            put(too);
        }
        if (positive)
            each<COUNT>([&](int i) {
                if (valid >> i & 1) positive[(pixel[i] + k) / LANES] = ::positive(value[i]);
            });
    }

  private:
    // Cold, so that registers are saved where it is called and nowhere else; but not optimised for
    // size, as what is cold is. Of a copy: this one has no address that a store might be to.
    __attribute__((noinline, cold)) static void one_apart(After after, Vector value, Number *y,
                                                          long pixel, long k) {
        one_with_silu(after, value, y, pixel, k);
    }
    __attribute__((noinline)) static void one_with_silu(const After &after, Vector value,
                                                        Number *y, long pixel, long k) {
        Vector values[1] = {value};
        after.template all<1, true>(values, y, &pixel, k);
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
