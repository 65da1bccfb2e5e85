// Calls of the kernel's functions one after the other, as they were made before (`plan.py`).

#pragma once

namespace {

// Where numbers lie: in that block of memory, or, where it is 0, at that address.
struct Spot {
    long block;
    void *address;
};

// What `After` points to, but of numbers of any type.
struct Pointers {
    const void *pointers[10];
    long flags[2];
};

// A convolution, or what finishes one: of x, the weights, the result, and what `After` points to.
struct Call {
    void *function;
    long is_convolution;
    Spot x, weights, y, after[10];
    long flags[2];
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
    for (int i = 0; i < 10; i++) after.pointers[i] = at(call.after[i]);
    for (int i = 0; i < 2; i++) after.flags[i] = call.flags[i];
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
