// SPDX-License-Identifier: Apache-2.0
// A small generator whose numbers are the same on every machine; the standard library's
// distributions are not. Sequence: SplitMix64, a counter with a mixing function.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

namespace comet {

class PortableRandom {
 public:
  explicit PortableRandom(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15U;
    std::uint64_t mixed = state_;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9U;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebU;
    return mixed ^ (mixed >> 31);
  }

  /// A number from 0 to n - 1, for 1 <= n <= 2^32; each is likely to within n / 2^32.
  std::int64_t below(std::int64_t n) {
    return static_cast<std::int64_t>(((next() >> 32) * static_cast<std::uint64_t>(n)) >> 32);
  }

  /// All orders of `values` are equally likely.
  template <typename T>
  void shuffle(std::span<T> values) {
    for (auto left = static_cast<std::int64_t>(values.size()); left > 1; --left) {
      std::swap(values[left - 1], values[below(left)]);
    }
  }

 private:
  std::uint64_t state_;
};

}  // namespace comet
