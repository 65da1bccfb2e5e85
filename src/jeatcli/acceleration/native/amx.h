// Convolutions in bfloat16 as the definition has them, by the processor's tiles (AMX): matrices of
// 16 rows of 64 bytes, of which one instruction multiplies two and adds the product to a third.
//
// The rows are 16 pixels beside each other in a row of results; where that is no multiple of 16, the
// pixels of several images lie side by side (`amx_layout.h`).

#pragma once

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)

#include "after.h"
#include "amx_layout.h"
#include "kept.h"

#include <omp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

namespace {

// Where the pixels of a tile are in the result, from that of the first one on; and which there are.
struct Pixels {
    long place[ROWS];
    unsigned valid;
};

// A tile: where what it reads begins, and where its result does.
struct Rows {
    const Bfloat16 *from;
    long base;
    const Pixels *pixels;
};

// The pixels of each tile of a row of a group that has so many images.
template <class Kind>
void list_pixels(const Shape &s, const Layout<Kind> &o, long there, int part,
                 std::vector<Pixels> &to) {
    const Size size = o.result(s);
    const long count = o.width * o.together;
    long g = 0, left = Kind::TO > 1 ? part % 2 : 0;
    for (long t = 0; t < count; t += ROWS) {
        Pixels pixels = {};
        for (long r = 0; r < ROWS; r++) {
            if (t + r < count && g < there && left < size.width) {
                pixels.valid |= 1u << r;
                pixels.place[r] = (g * size.height * size.width + left) * s.outputs;
            }
            if (++g == o.together) g = 0, left += Kind::TO;
        }
        to.push_back(pixels);
    }
}

// All tiles of a part of a unit, given the pixels of those of a row.
template <class Kind>
void list_rows(const Shape &s, const Layout<Kind> &o, const Bfloat16 *copies, long unit, int part,
               const Pixels *pixels, std::vector<Rows> &to) {
    const long first = unit / o.strips * o.together, top = unit % o.strips * o.strip;
    const long last = std::min(top + o.strip, o.height), down = Kind::TO > 1 ? part / 2 : 0;
    const Size size = o.result(s);
    for (long row = top; row < last; row++) {
        const long y = Kind::TO * row + down;
        if (y >= size.height) continue;
        const long base = (first * size.height + y) * size.width * s.outputs;
        const Bfloat16 *from = copies + Kind::FROM * (row - top) * o.row();
        for (long t = 0; t * ROWS < o.width * o.together; t++, from += TILE)
            to.push_back({from, base, pixels + t});
    }
}

// The sums of some tiles that wait for what follows and to be stored. It is done bit by bit, while
// the processor multiplies the next ones.
struct Waiting {
    static constexpr int EACH = 4, BITS = 4 * ROWS / EACH;
    const After<Bfloat16> &after;
    Bfloat16 *y;
    alignas(64) float sums[2][4 * 256];  // of these and of the next ones
    const Rows *rows[4];
    long k[4];  // and the outputs of each
    int now = 0, done = BITS, count = 0;

    void go_on(int bits) {
        for (; bits > 0 && done < count; bits--, done++) finish(done);
    }

    // Ask for the pixels of some rows of a tile that is being multiplied, for when it waits.
    void fetch_rows(const Rows &one, int row, long first) const {
        for (int r = row; r < row + EACH; r++) {
            const long place = one.base + one.pixels->place[r] + first;
            if (after.residual) __builtin_prefetch(after.residual + place);
            if (after.cut) __builtin_prefetch(after.cut + place);
            if (after.more) __builtin_prefetch(after.more + place);
            if (after.mask) __builtin_prefetch(after.mask + place / LANES);
            if (y) __builtin_prefetch(y + place, 1);
            if (after.too) __builtin_prefetch(after.too + place, 1);
        }
    }

    // Finish and store some rows.
    void finish(int bit) {
        const int one = bit / (ROWS / EACH), row = bit % (ROWS / EACH) * EACH;
        const float *from = sums[1 - now] + one * 256 + row * LANES;
        const Pixels &pixels = *rows[one]->pixels;
        Vector value[EACH];
        long place[EACH];
#pragma GCC unroll 4
        for (int r = 0; r < EACH; r++) {
            value[r] = load(from + r * LANES);
            place[r] = rows[one]->base + pixels.place[row + r];
        }
        const unsigned valid = pixels.valid >> row;
        if (after.silu)
            after.template all<EACH, true>(value, y, place, k[one], valid);
        else if (pixels.valid == 0xffff)
            after.template all<EACH, false>(value, y, place, k[one]);
        else
            after.template all<EACH, false>(value, y, place, k[one], valid);
    }
};

// So many tiles of pixels times panels of 16 outputs.
template <int PANELS, class Kind>
inline void multiply(const Layout<Kind> &o, const Rows *const (&rows)[4 / PANELS], int part,
                     const Bfloat16 *u, long next, long k, Waiting &waiting) {
    const int side = Kind::rows(part), steps = o.steps(part);
    const int all = o.planes * side * steps;
    int asked = 0;
    const int bits = all ? (Waiting::BITS + all - 1) / all : 0;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (long p = 0; p < o.planes; p++)
        for (int i = 0; i < side; i++)
            for (int j = 0; j < steps; j++, u += TILE) {
                const long at = p * o.plane + i * o.row() + o.slot(j) * o.together * PIECE;
                if constexpr (PANELS == 2) {
                    _tile_loadd(6, u, 64);
                    _tile_loadd(4, rows[0]->from + at, 64);
                    _tile_dpbf16ps(0, 4, 6);
                    _tile_loadd(7, u + next, 64);
                    _tile_dpbf16ps(1, 4, 7);
                    _tile_loadd(5, rows[1]->from + at, 64);
                    _tile_dpbf16ps(2, 5, 6);
                    _tile_dpbf16ps(3, 5, 7);
                } else {
                    _tile_loadd(6, u, 64);
                    _tile_loadd(4, rows[0]->from + at, 64);
                    _tile_dpbf16ps(0, 4, 6);
                    _tile_loadd(5, rows[1]->from + at, 64);
                    _tile_dpbf16ps(1, 5, 6);
                    _tile_loadd(4, rows[2]->from + at, 64);
                    _tile_dpbf16ps(2, 4, 6);
                    _tile_loadd(5, rows[3]->from + at, 64);
                    _tile_dpbf16ps(3, 5, 6);
                }
                waiting.go_on(bits);
                for (int b = 0; b < bits && asked < 16 / PANELS; b++, asked++)
                    waiting.fetch_rows(*rows[asked / 4], asked % 4 * 4, k);
            }
    waiting.go_on(Waiting::BITS);
    float *sums = waiting.sums[waiting.now];
    _tile_stored(0, sums, 64);
    _tile_stored(1, sums + 256, 64);
    _tile_stored(2, sums + 512, 64);
    _tile_stored(3, sums + 768, 64);
}

// All tiles times so many panels of outputs, from `k` on.
template <int PANELS, class Kind>
void multiply_all(const Layout<Kind> &o, const std::vector<Rows> &all, int part, const Bfloat16 *u,
                  long next, long k, Waiting &waiting) {
    constexpr int COUNT = 4 / PANELS;
    for (size_t first = 0; first < all.size(); first += COUNT) {
        const Rows *rows[COUNT];
        for (int m = 0; m < COUNT; m++) rows[m] = &all[std::min(first + m, all.size() - 1)];
        multiply<PANELS>(o, rows, part, u, next, k, waiting);
        for (int m = 0; m < 4; m++) {
            waiting.rows[m] = rows[m / PANELS];
            waiting.k[m] = k + m % PANELS * LANES;
        }
        waiting.now = 1 - waiting.now;
        waiting.done = 0;
        waiting.count = std::min<long>(COUNT, all.size() - first) * PANELS * (ROWS / Waiting::EACH);
    }
}

struct alignas(64) Configuration {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

template <class Kind>
void convolve_tiles(const Shape &s, const Bfloat16 *x, const Bfloat16 *u, Bfloat16 *y,
                    const After<Bfloat16> &given) {
    if (!s.n) return;
    const long threads = omp_get_max_threads();
    const Layout<Kind> o(s, threads);
    const long size = o.size(), share = (o.units + threads - 1) / threads;
    // The weights are read once a task.
    const long each = std::max<long>(std::min(COPIES / (2 * size), share), 1);
    const long tasks = (o.units + each - 1) / each;
#pragma omp parallel
    {
        static thread_local Kept<Bfloat16> kept;
        static thread_local std::vector<Rows> rows;
        static thread_local std::vector<Pixels> pixels;
        const After<Bfloat16> after = given;  // a copy, which no store can change
        Waiting waiting = {after, y, {}, {}, {}};
        const Configuration configuration;
        _tile_loadconfig(&configuration);
        Bfloat16 *const copies = kept.get(each * size);
        // Of each part, in a group and in the last one, which may have fewer images.
        pixels.clear();
        for (int part = 0; part < Kind::PARTS; part++) {
            list_pixels(s, o, o.together, part, pixels);
            list_pixels(s, o, (s.n - 1) % o.together + 1, part, pixels);
        }
        const long across = pixels.size() / (2 * Kind::PARTS);
#pragma omp for schedule(dynamic)
        for (long task = 0; task < tasks; task++) {
            const long first = task * each, last = std::min(first + each, o.units);
            for (long unit = first; unit < last; unit++)
                copy_unit(s, o, x, unit, copies + (unit - first) * size);
            const Bfloat16 *weights = u;
            for (int part = 0; part < Kind::PARTS; part++) {
                rows.clear();
                for (long unit = first; unit < last; unit++) {
                    const bool end = (unit / o.strips + 1) * o.together >= s.n;
                    list_rows(s, o, copies + (unit - first) * size, unit, part,
                              &pixels[(2 * part + end) * across], rows);
                }
                const long next = o.planes * Kind::rows(part) * o.steps(part) * TILE;
                for (long k = 0; k < s.outputs;) {
                    const bool two = s.outputs - k >= 2 * LANES;
                    if (two)
                        multiply_all<2>(o, rows, part, weights, next, k, waiting);
                    else
                        multiply_all<1>(o, rows, part, weights, next, k, waiting);
                    k += (1 + two) * LANES;
                    weights += (1 + two) * next;
                }
                waiting.go_on(Waiting::BITS);  // which reads the rows
            }
        }
        _tile_release();
    }
}

// Whether the system lets this process use the tiles.
bool ask_for_tiles() {
    constexpr long REQUEST = 0x1023, TILES = 18;
    return syscall(SYS_arch_prctl, REQUEST, TILES) == 0;
}

}  // namespace

#endif
