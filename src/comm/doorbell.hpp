// SPDX-License-Identifier: Apache-2.0
// Doorbell: how a worker sleeps until something it may want has happened, without missing it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace comet {

/// An event count on a futex, one per rank. Whoever makes work runnable for a rank (a signal, an
/// arrival, a finished tile) rings its doorbell after the atomic that says so; a worker that found
/// nothing to do sleeps on the value it had read before it looked. Works across processes when it
/// lies in shared memory. The doorbell orders nothing by itself: the words it announces carry their
/// own acquire and release.
class alignas(64) Doorbell {
 public:
  /// The value to pass to sleep(); read it before looking for work.
  std::uint32_t value() const noexcept { return rings_.load(std::memory_order_seq_cst); }

  /// Wakes all sleepers. Call it after the store that it announces.
  void ring() noexcept;

  /// Returns when the doorbell was rung since `seen`, at `deadline`, or spuriously. Never throws.
  void sleep(std::uint32_t seen, std::chrono::steady_clock::time_point deadline) noexcept;

 private:
  std::atomic<std::uint32_t> rings_{0};
  std::atomic<std::uint32_t> sleepers_{0};
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

}  // namespace comet
