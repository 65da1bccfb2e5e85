// What a network does to the result of a convolution at once.

#pragma once

#include "vectors.h"

namespace {

// What is done to the result while it is in registers; where a pointer is null, nothing.
template <class Number>
struct After {
    const float *bias;       // one for each output, added
    const Number *residual;  // as y, added
    const Number *cut;       // as y; where it is not positive, the result becomes zero
    const float *scale;      // one for each output, multiplied
    const Number *more;      // as y, added to the product
    const float *scale_too, *shift_too;  // of a second result, the ReLU of a multiple and a sum
    Number *too;
    long relu;  // whether what is negative becomes zero, before anything is cut

    // Finish and store the values of the outputs from `k` on, of a pixel whose outputs begin there.
    void operator()(Vector value, Number *y, long pixel, long k) const {
        const long place = pixel + k;
        if (bias) value += load(bias + k);
        if (residual) value += load(residual + place);
        if (relu) value = value < 0 ? Vector{} : value;
        if (cut) value = load(cut + place) <= 0 ? Vector{} : value;
        if (scale || more) {
            // In one expression: a product in one branch and a sum in another would be rounded once
            // for some pixels of a block and twice for others.
            const Vector sum = more ? load(more + place) : Vector{};
            value = scale ? value * load(scale + k) + sum : value + sum;
        }
        if (y) store(y + place, value);
        if (!too) return;
        if (scale_too) value = value * load(scale_too + k) + load(shift_too + k);
        store(too + place, value < 0 ? Vector{} : value);
    }
};

}  // namespace
