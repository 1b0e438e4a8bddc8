// SPDX-License-Identifier: Apache-2.0
// SymmetricPool: which parts of pieces of memory are in use. It reads and writes none of it.
#pragma once

#include <cstddef>
#include <map>

namespace comet {

/// Gives parts of pieces that it is given. Processes whose pieces have the same sizes, and lie in
/// the same order and distances, get parts at the same places as long as all make the same calls.
/// One thread.
class SymmetricPool {
 public:
  /// Parts are multiples of it.
  static constexpr std::size_t kUnit = 4096;

  /// Adds a piece; what is left of it beyond the last whole unit is not used. Pieces that touch
  /// are one.
  void add(std::byte* begin, std::size_t bytes);
  /// Whether allocate gives that much.
  bool has_room(std::size_t bytes) const noexcept;
  /// The lowest place with so many bytes, at least one unit; null if there is none.
  std::byte* allocate(std::size_t bytes);
  /// Takes back what allocate gave.
  void release(std::byte* begin);

 private:
  using Parts = std::map<std::byte*, std::size_t>;

  static std::size_t in_units(std::size_t bytes) noexcept;
  Parts::const_iterator find_free(std::size_t bytes) const noexcept;
  void add_free(std::byte* begin, std::size_t bytes);

  Parts free_;  // bytes by where they begin; none touch
  Parts used_;
};

}  // namespace comet
