// The copies of pixels that a convolution by tiles reads: with zeros around them, so that those of
// each weight are the rows of a tile, one after the other.

#pragma once

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)

#include "vectors.h"

#include <algorithm>
#include <numeric>

namespace {

constexpr long ROWS = 16, PIECE = 32;  // of a tile, and how many inputs a row of it has
constexpr long TILE = ROWS * PIECE;    // numbers
// What the copies of a task take of the second-level cache, in bytes.
constexpr long COPIES = 400000;

// A kind of convolution reads every `FROM`th of the pixels that it `KEEPS` each way, from `MARGIN`
// before the image on; its result has `PARTS` parts, whose pixels are `TO` apart each way, and each
// is of so many `rows` and `columns` of weights.
template <int SIDE>
struct Plain {
    static constexpr int FROM = 1, KEEPS = 1, MARGIN = SIDE / 2, TO = 1, PARTS = 1, MOST = SIDE;
    static constexpr int rows(int) { return SIDE; }
    static constexpr int columns(int) { return SIDE; }
};

// Stride 2.
template <int SIDE>
struct Halved : Plain<SIDE> {
    static constexpr int FROM = 2;
};

// Of 1x1, only every second pixel.
template <>
struct Halved<1> : Plain<1> {
    static constexpr int KEEPS = 2;
};

// Stride 2, backward: pixels of even rows and columns first. Those of 1x1 between are only `after`.
template <int SIDE>
struct Doubled {
    static constexpr int FROM = 1, KEEPS = 1, MARGIN = 0, TO = 2, PARTS = 4, MOST = SIDE == 3 ? 2 : 1;
    static constexpr int rows(int part) { return SIDE == 3 ? 1 + part / 2 : part == 0; }
    static constexpr int columns(int part) { return SIDE == 3 ? 1 + part % 2 : part == 0; }
};

// Of images, in pixels.
struct Size {
    long height, width;
};

// How the pixels are laid out that a convolution reads: plane after plane of 32 channels, that of
// all weights of a plane stays in the first-level cache.
template <class Kind>
struct Layout {
    long n, height, width;  // of the results of a part
    long together;          // images side by side
    bool pairs;             // whether a pixel has its right neighbour's 16 channels, too
    long planes;
    long half, line;        // pixels of an image of every second column, and of all
    long strip, strips;     // lines of results in a task, and how many there are in an image
    long units;             // groups of images times strips
    long plane;             // numbers from a plane to the next one

    Layout(const Shape &s, long threads) {
        const long step = std::max({Kind::FROM, Kind::KEEPS, Kind::TO});
        n = s.n, height = (s.height + step - 1) / step, width = (s.width + step - 1) / step;
        together = std::min(ROWS / std::gcd(width, ROWS), n);
        pairs = s.inputs == PIECE / 2 && Kind::MOST == 3;
        planes = (s.inputs + PIECE - 1) / PIECE;
        half = width + (Kind::MOST + Kind::FROM - 2) / Kind::FROM;
        line = half * Kind::FROM;
        const long groups = (n + together - 1) / together;
        // At least a few tasks for each thread, but no more lines around them than need be.
        const long wanted = (4 * threads + groups - 1) / groups;
        strip = std::max<long>((height + wanted - 1) / wanted, std::min<long>(height, 4));
        const long fit = COPIES / (2 * line * together * planes * PIECE * Kind::FROM);
        strip = std::max<long>(std::min(strip, fit - Kind::MOST), 1);
        strips = (height + strip - 1) / strip;
        units = groups * strips;
        // A tile may reach beyond the last row. Planes that are apart by a multiple of a page would
        // compete for the same lines of the cache.
        plane = (lines() * row() + TILE + 2047) / 2048 * 2048 + 3 * PIECE;
    }

    long lines() const { return Kind::FROM * (strip - 1) + Kind::MOST; }
    long row() const { return line * together * PIECE; }  // numbers of a line
    long size() const { return planes * plane; }          // and of a unit
    Size result(const Shape &s) const {
        return Kind::TO > 1 ? Size{s.height, s.width} : Size{height, width};
    }
    // Where a column's pixel is: those of a weight follow each other.
    long slot(long column) const { return column % Kind::FROM * half + column / Kind::FROM; }
    // How many columns of weights a part has. Of pairs, the pixel in the middle is in both.
    int steps(int part) const { return pairs ? 2 : Kind::columns(part); }
};

typedef __m512i Piece;

inline void put(Bfloat16 *to, Piece piece) { _mm512_store_si512(to, piece); }
// The channels of two pixels, of which there may be but one.
inline Piece join(const Bfloat16 *left, const Bfloat16 *right) {
    const auto half = [](const Bfloat16 *from) {
        return from ? _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)) : __m256i{};
    };
    return _mm512_inserti64x4(_mm512_zextsi256_si512(half(left)), half(right), 1);
}

// Copy a row of an image to its planes, `next` numbers from a pixel to the one on its right.
template <class Kind>
void copy_row(const Shape &s, const Layout<Kind> &o, const Bfloat16 *x, long width, Bfloat16 *to,
              long next) {
    constexpr long KEEPS = Kind::KEEPS, MARGIN = Kind::MARGIN;
    const long kept = (width + KEEPS - 1) / KEEPS, end = std::min(o.line, kept + MARGIN);
    for (long c = 0; c < s.inputs; c += PIECE, to += o.plane) {
        const auto place = [&](long j) { return to + o.slot(j) * next; };
        const bool whole = c + PIECE <= s.inputs;
        const Bfloat16 *from = x + c;
        for (long j = 0; j < MARGIN; j++) put(place(j), Piece{});
        for (long j = end; j < o.line; j++) put(place(j), Piece{});
        if (o.pairs && MARGIN) put(place(0), join(nullptr, from));
        for (long j = MARGIN; j < end - 1; j++, from += KEEPS * s.inputs)
            put(place(j),
                whole || o.pairs ? _mm512_loadu_si512(from) : join(from, nullptr));
        const bool more = o.pairs && end < kept + MARGIN;
        put(place(end - 1), whole ? _mm512_loadu_si512(from)
                                  : join(from, more ? from + s.inputs : nullptr));
    }
}

// Copy the pixels that a unit reads.
template <class Kind>
void copy_unit(const Shape &s, const Layout<Kind> &o, const Bfloat16 *x, long unit, Bfloat16 *to) {
    // Backward, x has the half of the height and width.
    const long height = Kind::TO == 1 ? s.height : o.height;
    const long width = Kind::TO == 1 ? s.width : o.width;
    const long first = unit / o.strips * o.together, top = unit % o.strips * o.strip;
    const long next = o.together * PIECE;
    for (long i = 0; i < o.lines(); i++, to += o.row()) {
        const long row = (Kind::FROM * top + i - Kind::MARGIN) * Kind::KEEPS;
        for (long g = 0; g < o.together; g++) {
            Bfloat16 *image = to + g * PIECE;
            if (row >= 0 && row < height && first + g < o.n) {
                const long line = (first + g) * height + row;
                copy_row(s, o, x + line * width * s.inputs, width, image, next);
                continue;
            }
            for (long p = 0; p < o.planes; p++)
                for (long j = 0; j < o.line; j++) put(image + p * o.plane + j * next, Piece{});
        }
    }
}

}  // namespace

#endif
