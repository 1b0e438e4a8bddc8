// SPDX-License-Identifier: Apache-2.0
// ReadyList: work in its wished order, from which workers take the first piece that is ready.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "backend/cpu/atomic_array.hpp"

namespace comet {

/// `entries` entries of `width` pieces each; every piece is claimed by exactly one worker. A worker
/// passes over entries that are not ready, so it never waits while anything is. Claims order
/// nothing: what makes an entry ready carries its own acquire.
class ReadyList {
 public:
  struct Piece {
    std::int64_t entry;
    std::int32_t part;  ///< 0 to width - 1.
  };

  /// Not while workers run.
  void reset(std::int64_t entries, std::int32_t width) {
    claims_.reset(entries);
    entries_ = width > 0 ? entries : 0;
    width_ = width;
    head_.store(0, std::memory_order_relaxed);
    searched_in_vain_.store(-1, std::memory_order_relaxed);
  }

  std::int64_t num_entries() const noexcept { return entries_; }
  std::int64_t num_pieces() const noexcept { return entries_ * width_; }

  /// First entry that may have unclaimed pieces.
  std::int64_t head() const noexcept { return head_.load(std::memory_order_relaxed); }

  /// Whether every piece was claimed; may turn true late, never early.
  bool exhausted() const noexcept { return head() >= entries_; }

  /// Claims a piece of the first entry for which `ready(entry)` holds. `rung` is the rank's
  /// doorbell, read before: whatever makes an entry ready rings it, so a list that was searched in
  /// vain is not searched again before it rang.
  template <typename Ready>
  std::optional<Piece> take(std::uint32_t rung, const Ready& ready) {
    if (searched_in_vain_.load(std::memory_order_relaxed) == std::int64_t{rung}) {
      return std::nullopt;
    }
    for (std::int64_t i = head(); i < entries_; ++i) {
      if (claims_[i].load(std::memory_order_relaxed) >= width_) {
        std::int64_t expected = i;  // moves the head only over a claimed prefix
        head_.compare_exchange_strong(expected, i + 1, std::memory_order_relaxed);
        continue;
      }
      if (!ready(i)) continue;
      const std::int32_t part = claims_[i].fetch_add(1, std::memory_order_relaxed);
      if (part < width_) return Piece{i, part};
    }
    searched_in_vain_.store(rung, std::memory_order_relaxed);
    return std::nullopt;
  }

 private:
  AtomicArray claims_;
  std::int64_t entries_ = 0;
  std::int32_t width_ = 1;
  std::atomic<std::int64_t> head_{0};
  std::atomic<std::int64_t> searched_in_vain_{-1};  ///< the doorbell then, -1: not yet
};

}  // namespace comet
