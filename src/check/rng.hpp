// SPDX-License-Identifier: Apache-2.0
// A random number generator with the same numbers on every machine and standard library.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace comet {

/// Splitmix64: one multiply-and-shift mix of a counter. Draw in separate statements: the order in
/// which arguments of one call are evaluated is not fixed.
class Rng {
 public:
  explicit Rng(std::uint64_t seed) noexcept : state_(seed) {}
  /// An own stream for each of many things that share a seed.
  Rng(std::uint64_t seed, std::uint64_t stream) noexcept : state_(seed) {
    state_ = next() ^ (stream * 0xd1342543de82ef95ULL);
    state_ = next();
  }

  std::uint64_t next() noexcept {
    state_ += 0x9e3779b97f4a7c15ULL;
    std::uint64_t mixed = state_;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ULL;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebULL;
    return mixed ^ (mixed >> 31);
  }
  /// As if next() had been called so often.
  void skip(std::int64_t count) noexcept {
    state_ += static_cast<std::uint64_t>(count) * 0x9e3779b97f4a7c15ULL;
  }

  /// In [low, high], both included.
  std::int64_t between(std::int64_t low, std::int64_t high) noexcept {
    const auto width = static_cast<std::uint64_t>(high - low) + 1;
    return low + static_cast<std::int64_t>(next() % width);
  }

  /// True once in `n`.
  bool one_in(std::int64_t n) noexcept { return between(1, n) == 1; }

  /// In [0, 1), a multiple of 2^-24.
  float unit() noexcept { return static_cast<float>(next() >> 40) * 0x1p-24F; }

  /// In [-1, 1).
  float symmetric() noexcept { return 2.0F * unit() - 1.0F; }

  template <typename T>
  T pick(std::initializer_list<T> values) noexcept {
    return values.begin()[between(0, static_cast<std::int64_t>(values.size()) - 1)];
  }

 private:
  std::uint64_t state_;
};

}  // namespace comet
