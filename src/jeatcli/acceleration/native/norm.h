// Batch normalisation by the batch's own statistics, with the sum and the activation after it
// (Ioffe and Szegedy 2015). Forward the images are read twice and written once, backward read twice
// with their gradients and written once.
//
// The sums are of the same blocks of pixels in the same order whatever the number of threads.

#pragma once

#include "silu.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

namespace {

enum Activation { NONE, RELU, SILU };
constexpr float LEAST = -std::numeric_limits<float>::infinity();

// A layer as Python hands it over; all but the pixels are numbers for each channel.
template <class Number>
struct Norm {
    const Number *residual;             // added before the activation; or null
    const float *weight, *bias;         // or null
    float *running_mean, *running_var;  // moved toward the batch's; or null
    float *mean, *rate;                 // of the batch, and the reciprocal of its deviation
    double eps, momentum;
    long activation;
    // What is lower becomes zero, if it is not SiLU that follows.
    float least() const { return activation == RELU ? 0 : LEAST; }
};

// What is normalised: a pixel's channels lie side by side.
struct Positions {
    long count, channels;
    // Numbers of a block stay in the first-level cache.
    long rows() const { return std::max(16L, 4096 / channels); }
    long blocks() const { return (count + rows() - 1) / rows(); }
};

// Some vectors of channels, from k on, of a block of `count` pixels; `sums` is where its sums lie.
struct Strip {
    long count, k, begin, sums, channels;

    // Run for each vector of each pixel, with its number, and where it begins.
    template <int WIDE, class Do>
    inline void each(const Do &run) const {
        long place = begin;
        for (long i = 0; i < count; i++, place += channels)
#pragma GCC unroll 4
            for (int v = 0; v < WIDE; v++) run(v, place + v * LANES);
    }
};

// Run for each block and each WIDE vectors of channels.
template <int WIDE, class Do>
void each_strip(const Positions &p, const Do &run) {
    const long rows = p.rows(), blocks = p.blocks();
#pragma omp parallel for
    for (long block = 0; block < blocks; block++) {
        const long first = block * rows, count = std::min(rows, p.count - first);
        for (long k = 0; k < p.channels; k += WIDE * LANES)
            run(Strip{count, k, first * p.channels + k, block * p.channels + k, p.channels});
    }
}

// Numbers of WIDE vectors of channels, in registers.
template <int WIDE>
struct Row {
    Vector value[WIDE];
    explicit Row(const float *from) {
        for (int v = 0; v < WIDE; v++) value[v] = load(from + v * LANES);
    }
    Vector operator[](int v) const { return value[v]; }
};

// The multiple and the sum that normalise: u = scale x + shift.
struct Line {
    std::vector<float> scale, shift;
    template <class Number>
    Line(const Norm<Number> &norm, long channels) : scale(channels), shift(channels) {
        for (long k = 0; k < channels; k++) {
            scale[k] = norm.rate[k] * (norm.weight ? norm.weight[k] : 1.f);
            shift[k] = (norm.bias ? norm.bias[k] : 0.f) - norm.mean[k] * scale[k];
        }
    }

    template <int WIDE>
    struct Part {
        Row<WIDE> scale, shift;
        Part(const Line &line, long k) : scale(&line.scale[k]), shift(&line.shift[k]) {}
        Vector operator()(Vector x, int v) const { return x * scale[v] + shift[v]; }
    };
};

// Means of the blocks, and squares of the distances from them, become those of all pixels (Chan
// et al. 1979), and move the running ones.
template <class Number>
void combine(const Positions &p, const std::vector<float> &means, const std::vector<float> &squares,
             const Norm<Number> &norm) {
    std::vector<double> mean(p.channels), square(p.channels);
    double seen = 0;
    for (long block = 0; block < p.blocks(); block++) {
        const double count = std::min(p.rows(), p.count - block * p.rows());
        const double share = count / (seen + count);
        const float *m = &means[block * p.channels], *s = &squares[block * p.channels];
        for (long k = 0; k < p.channels; k++) {
            const double apart = m[k] - mean[k];
            mean[k] += apart * share;
            square[k] += s[k] + apart * apart * (seen * share);
        }
        seen += count;
    }
    for (long k = 0; k < p.channels; k++) {
        norm.mean[k] = mean[k];
        norm.rate[k] = 1 / std::sqrt(square[k] / seen + norm.eps);
        if (!norm.running_mean) continue;
        const double part = norm.momentum, spread = square[k] / (seen - 1);
        norm.running_mean[k] = (1 - part) * norm.running_mean[k] + part * mean[k];
        norm.running_var[k] = (1 - part) * norm.running_var[k] + part * spread;
    }
}

template <int WIDE, class Number>
void measure(const Positions &p, const Number *x, const Norm<Number> &norm) {
    std::vector<float> means(p.blocks() * p.channels), squares(p.blocks() * p.channels);
    each_strip<WIDE>(p, [&](const Strip &strip) {
        Vector mean[WIDE] = {}, square[WIDE] = {};
        strip.each<WIDE>([&](int v, long place) { mean[v] += load(x + place); });
        for (int v = 0; v < WIDE; v++) mean[v] /= (float)strip.count;
        strip.each<WIDE>([&](int v, long place) {
            const Vector apart = load(x + place) - mean[v];
            square[v] += apart * apart;
        });
        for (int v = 0; v < WIDE; v++) {
            store(&means[strip.sums + v * LANES], mean[v]);
            store(&squares[strip.sums + v * LANES], square[v]);
        }
    });
    combine(p, means, squares, norm);
}

template <bool SILU, int WIDE, class Number>
void normalise(const Positions &p, const Number *x, Number *y, const Norm<Number> &norm) {
    measure<WIDE>(p, x, norm);
    const Line line(norm, p.channels);
    const Vector least = Vector{} + norm.least();
    each_strip<WIDE>(p, [&](const Strip &strip) {
        const Line::Part<WIDE> part(line, strip.k);
        strip.each<WIDE>([&](int v, long place) {
            Vector u = part(load(x + place), v);
            if (norm.residual) u += load(norm.residual + place);
            store(y + place, SILU ? silu<Number>(u) : u < least ? Vector{} : u);
        });
    });
}

// What a backward pass reads and writes besides the layer.
template <class Number>
struct Slopes {
    const Number *y;         // the result, where a residual was added before a ReLU
    const Number *gradient;  // by the result
    Number *passed;  // if not null, takes the gradient by what the activation was given
    Number *by_x;
    float *by_weight, *by_bias;
};

// The gradient by what the activation was given.
template <bool SILU, int WIDE, class Number>
struct Passed {
    const Number *x;
    const Slopes<Number> &s;
    Line::Part<WIDE> part;
    Vector least;
    Passed(const Number *x, const Norm<Number> &norm, const Line &line, const Slopes<Number> &s,
           long k)
        : x(x), s(s), part(line, k), least(Vector{} + norm.least()) {}

    Vector operator()(int v, long place) const {
        const Vector gradient = load(s.gradient + place);
        const Vector u = s.y ? load(s.y + place) : part(load(x + place), v);
        if (SILU) return gradient * silu_slope<Number>(u);
        return u <= least ? Vector{} : gradient;
    }
};

// Over the pixels: of these gradients, and of their products with how far x is from its mean.
struct Sums {
    std::vector<double> gradients, products;
};

template <bool SILU, int WIDE, class Number>
Sums sum_up(const Positions &p, const Number *x, const Norm<Number> &norm, const Line &line,
            const Slopes<Number> &s) {
    std::vector<float> sums(p.blocks() * p.channels), products(p.blocks() * p.channels);
    each_strip<WIDE>(p, [&](const Strip &strip) {
        const Passed<SILU, WIDE, Number> passed(x, norm, line, s, strip.k);
        const Row<WIDE> mean(norm.mean + strip.k);
        Vector sum[WIDE] = {}, product[WIDE] = {};
        strip.each<WIDE>([&](int v, long place) {
            const Vector gradient = passed(v, place);
            if (s.passed) store(s.passed + place, gradient);
            sum[v] += gradient;
            product[v] += gradient * (load(x + place) - mean[v]);
        });
        for (int v = 0; v < WIDE; v++) {
            store(&sums[strip.sums + v * LANES], sum[v]);
            store(&products[strip.sums + v * LANES], product[v]);
        }
    });
    Sums all = {std::vector<double>(p.channels), std::vector<double>(p.channels)};
    for (long at = 0; at < (long)sums.size(); at += p.channels)
        for (long k = 0; k < p.channels; k++) {
            all.gradients[k] += sums[at + k];
            all.products[k] += products[at + k];
        }
    return all;
}

template <bool SILU, int WIDE, class Number>
void differentiate(const Positions &p, const Number *x, const Norm<Number> &norm,
                   const Slopes<Number> &s) {
    const Line line(norm, p.channels);
    const Sums sums = sum_up<SILU, WIDE>(p, x, norm, line, s);
    // What the mean and the deviation take off: a line in how far a pixel is from the mean.
    std::vector<float> rise(p.channels), level(p.channels);
    for (long k = 0; k < p.channels; k++) {
        s.by_bias[k] = sums.gradients[k];
        s.by_weight[k] = sums.products[k] * norm.rate[k];
        level[k] = -sums.gradients[k] / p.count * line.scale[k];
        rise[k] = -sums.products[k] / p.count * norm.rate[k] * norm.rate[k] * line.scale[k];
    }
    each_strip<WIDE>(p, [&](const Strip &strip) {
        const Passed<SILU, WIDE, Number> passed(x, norm, line, s, strip.k);
        const Row<WIDE> mean(norm.mean + strip.k), slope(&rise[strip.k]), constant(&level[strip.k]);
        strip.each<WIDE>([&](int v, long place) {
            const Vector gradient = s.passed ? load(s.passed + place) : passed(v, place);
            const Vector apart = load(x + place) - mean[v];
            const Vector lost = apart * slope[v] + constant[v];
            store(s.by_x + place, gradient * passed.part.scale[v] + lost);
        });
    });
}

// Run with whether it is SiLU that follows, and the vectors of a strip, as types.
template <class Do>
void with_layer(long activation, long channels, const Do &run) {
    const auto go = [&](auto wide) {
        activation == SILU ? run(std::true_type(), wide) : run(std::false_type(), wide);
    };
    if (channels % (4 * LANES) == 0) return go(std::integral_constant<int, 4>());
    if (channels % (2 * LANES) == 0) return go(std::integral_constant<int, 2>());
    go(std::integral_constant<int, 1>());
}

}  // namespace
