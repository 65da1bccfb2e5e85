// Memory that is kept from call to call.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

constexpr size_t LINE = 64;  // of the cache, in bytes

// It begins where a line of the cache does: a vector that lies in two of them takes twice as long.
template <class Item>
class Kept {
  public:
    // So many items at least. They hold what they held before, if there were as many.
    Item *get(size_t count) {
        const size_t all = count + LINE / sizeof(Item);
        if (items.size() < all) items.resize(all);
        return reinterpret_cast<Item *>((uintptr_t(items.data()) + LINE - 1) / LINE * LINE);
    }

  private:
    std::vector<Item> items;
};

}  // namespace
