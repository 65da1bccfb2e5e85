// Calls of the kernel's functions one after the other, as they were made before (`plan.py`).

#pragma once

#include "after.h"

namespace {

// Where numbers lie: in that block of memory, or, where it is 0, at that address.
struct Spot {
    long block;
    void *address;
};

// `After`, but of numbers of any type.
constexpr int POINTERS = 11, FLAGS = 3;
struct Pointers {
    const void *pointers[POINTERS];
    long flags[FLAGS];
};
static_assert(sizeof(Pointers) == sizeof(After<float>));

// A convolution, or what finishes one: of x, the weights, the result, and what `After` points to.
struct Call {
    void *function;
    long is_convolution;
    Spot x, weights, y, after[POINTERS];
    long flags[FLAGS];
    long numbers[5];  // the arguments after these, of which the first is for each image
};

using Convolution = void (*)(const void *, const void *, void *, const Pointers *, long, long, long,
                             long, long);
using Finish = void (*)(const void *, void *, const Pointers *, long, long);

inline void replay(const Call &call, void *const *blocks, long n) {
    const auto at = [=](const Spot &spot) -> void * {
        return spot.block ? blocks[spot.block] : spot.address;
    };
    Pointers after;
    for (int i = 0; i < POINTERS; i++) after.pointers[i] = at(call.after[i]);
    for (int i = 0; i < FLAGS; i++) after.flags[i] = call.flags[i];
    const long *const other = call.numbers + 1;
    if (call.is_convolution)
        reinterpret_cast<Convolution>(call.function)(at(call.x), at(call.weights), at(call.y),
                                                     &after, n * call.numbers[0], other[0],
                                                     other[1], other[2], other[3]);
    else
        reinterpret_cast<Finish>(call.function)(at(call.x), at(call.y), &after,
                                                n * call.numbers[0], other[0]);
}

}  // namespace
