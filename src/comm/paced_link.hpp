// SPDX-License-Identifier: Apache-2.0
// PacedLink: the emulated link. It moves no bytes, it says when a transfer would have ended.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>

namespace comet {

/// Each rank has an egress and an ingress clock. A transfer advances the source's egress and the
/// destination's ingress, each alone, to max(clock, now) + bytes / rate, and ends at the later of
/// the two; so a hot rank is slow as on a real node, and several transfers may be outstanding.
/// Thread-safe and lock-free; transfers of a rank to itself cost nothing.
class PacedLink {
 public:
  using Clock = std::chrono::steady_clock;

  explicit PacedLink(int num_ranks);

  /// 1e9 bytes per second of each clock; 0 turns pacing off (native). Not while transfers run.
  void set_rate(double gigabytes_per_second) noexcept;
  bool paced() const noexcept { return nanoseconds_per_byte_.load(std::memory_order_relaxed) > 0; }

  /// How long `bytes` occupy a clock; zero if the link is not paced.
  Clock::duration duration(std::int64_t bytes) const noexcept;

  /// Books `bytes` from rank `source` to rank `destination` from `now` on and returns when they
  /// have arrived; `now` itself if the link is not paced or the ranks are the same.
  Clock::time_point book(int source, int destination, std::int64_t bytes,
                         Clock::time_point now) noexcept;

 private:
  struct alignas(64) RankClock {
    std::atomic<std::int64_t> busy_until_ns{0};
  };

  int num_ranks_;
  std::atomic<double> nanoseconds_per_byte_{0};
  std::unique_ptr<RankClock[]> clocks_;  // [num_ranks egress, num_ranks ingress]
};

}  // namespace comet
