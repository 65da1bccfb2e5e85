// The kinds of convolutions: which pixels a tile takes to which points, and where its results lie.

#pragma once

#include "tiles.h"

namespace {

// A kind of convolution has `SIDE` by `SIDE` points for `TILE` by `TILE` pixels; how many images
// lie side by side at point p (`depth`), at all points before it (`before`), and at all (`TOTAL`);
// `PARTS` results, of which not every one `has` every point; and so many `WEIGHTS` at points for
// each input and output. The pixels of a result are `STEP` apart. `spread` takes the pixels that a
// tile sees to the points and puts them there, image by image and channel by channel.

// What is common to those that see one image, in windows of as many pixels as points.
template <int WIDTH, int MARGIN>
struct Window {
    static constexpr int SIDE = WIDTH, TOTAL = SIDE * SIDE;
    static constexpr int depth(int) { return 1; }
    static constexpr int before(int p) { return p; }

    template <class Number, class Put>
    static void spread(const Shape &s, const Grid &g, const Number *x, const Number *zeros,
                       const Place &at, const Put &put) {
        const long top = at.top - MARGIN, left = at.left - MARGIN, n = s.inputs, line = g.width * n;
        const Number *corner = x + (at.image * g.height + top) * line + left * n;
        // Beyond the end of a line the tiles of the next ones follow.
        const bool ends = at.left + AHEAD * g.tile >= g.width;
        const long soon = (AHEAD * g.tile + MARGIN) * n + ends * (g.tile - 1) * line;
        for (int i = 0; i < SIDE; i++) fetch(corner + i * line + soon, g.tile * n);
        // The pointers of larger windows would be more than there are registers.
        if constexpr (SIDE == 4)
            if (top >= 0 && left >= 0 && top + SIDE <= g.height && left + SIDE <= g.width)
                return to_points<SIDE>([=](int i, int j) { return corner + i * line + j * n; }, n,
                                       put);
        const Number *from[SIDE][SIDE];
        for (int i = 0; i < SIDE; i++)
            for (int j = 0; j < SIDE; j++)
                from[i][j] = pixel(x, zeros, g, at.image, top + i, left + j, n);
        to_points<SIDE>([&](int i, int j) { return from[i][j]; }, n, put);
    }
};

// What is common to those of one result.
struct Single {
    static constexpr int PARTS = 1, STEP = 1;
    static constexpr bool has(int, int) { return true; }
    static constexpr int row(int) { return 0; }
    static constexpr int column(int) { return 0; }
};

inline Grid half(const Shape &s, long tile) {
    return {s.n, (s.height + 1) / 2, (s.width + 1) / 2, tile};
}

// Stride 1, forward and backward.
template <int PIXELS>
struct Same : Window<PIXELS + 2, 1>, Single {
    static constexpr int TILE = PIXELS, WEIGHTS = (PIXELS + 2) * (PIXELS + 2);
    static Grid grid(const Shape &s) { return {s.n, s.height, s.width, TILE}; }
};

// Stride 2: of the four images, those of even rows have nothing at the points of the first row,
// and those of even columns nothing at those of the first column.
template <int PIXELS>
struct Down : Single {
    static constexpr int SIDE = PIXELS + 1, TILE = PIXELS, ROW = 2 * SIDE - 1;
    static constexpr int TOTAL = ROW * ROW, WEIGHTS = TOTAL;
    static constexpr int depth(int p) { return (p < SIDE ? 1 : 2) * (p % SIDE ? 2 : 1); }
    static constexpr int before(int p) {
        const int i = p / SIDE, j = p % SIDE;
        return (i ? (2 * i - 1) * ROW : 0) + (j ? (i ? 2 : 1) * (2 * j - 1) : 0);
    }
    static Grid grid(const Shape &s) { return half(s, TILE); }

    template <class Number, class Put>
    static void spread(const Shape &s, const Grid &, const Number *x, const Number *zeros,
                       const Place &at, const Put &put) {
        const Grid all = {s.n, s.height, s.width, TILE};
        for (int even = 0; even < 4; even++) {
            const int down = even / 2, across = even % 2;
            const Number *from[SIDE][SIDE];
            for (int i = 0; i < SIDE; i++)
                for (int j = 0; j < SIDE; j++)
                    from[i][j] =
                        pixel(x, zeros, all, at.image, 2 * (at.top + i) - 1 - down,
                              2 * (at.left + j) - 1 - across, s.inputs);
            const auto get = [&](int i, int j) { return from[i][j]; };
            to_points<SIDE>(get, s.inputs, [=](int p, long c, Vector value) {
                if ((down && p < SIDE) || (across && p % SIDE == 0)) return;
                put(before(p) + down * (p % SIDE ? 2 : 1) + across, c, value);
            });
        }
    }
};

static_assert(Down<4>::before(24) + Down<4>::depth(24) == Down<4>::TOTAL);
static_assert(Down<2>::before(8) + Down<2>::depth(8) == Down<2>::TOTAL);

// Stride 2, backward: the results are the four images, those of even rows without the points of the
// last row, and those of even columns without those of the last column.
template <int PIXELS>
struct Up : Window<PIXELS + 1, 0> {
    static constexpr int TILE = PIXELS, PARTS = 4, STEP = 2, SIDE = PIXELS + 1;
    static constexpr int WEIGHTS = (2 * SIDE - 1) * (2 * SIDE - 1);
    static constexpr bool has(int part, int p) {
        return (part / 2 == 0 || p < SIDE * (SIDE - 1)) &&
               (part % 2 == 0 || p % SIDE < SIDE - 1);
    }
    static constexpr int row(int part) { return 1 - part / 2; }
    static constexpr int column(int part) { return 1 - part % 2; }
    static Grid grid(const Shape &s) { return half(s, TILE); }
};

}  // namespace
