// SPDX-License-Identifier: Apache-2.0
// Recovery: how the ranks of a failed local world meet without what failed.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "comm/world_view.hpp"

namespace comet {

/// A lock and a condition, apart from the rendezvous and the doorbells, whose state a failure may
/// have left half-way. A rank that gives up may come again.
class Recovery {
 public:
  explicit Recovery(int size) : here_(size, false), left_(size), epochs_(size, 0) {}

  /// Waits until all ranks are here; the last one runs `reset` before any is let go. Returns the
  /// epoch from which all ranks count on, the latest that any has used; `reset` gets it too. Throws
  /// Error(timeout) naming the missing ranks after the world's timeout.
  std::uint32_t meet(const WorldView& view, const std::function<void(std::uint32_t epoch)>& reset);

 private:
  using Clock = std::chrono::steady_clock;

  bool all_here() const;
  std::string missing_since(Clock::time_point began) const;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<bool> here_;               // [size]
  std::vector<Clock::time_point> left_;  // [size] when the rank gave up last
  std::vector<std::uint32_t> epochs_;    // [size] as each rank brought it
  std::uint32_t base_ = 0;               // of the last completed meeting
  std::uint64_t generation_ = 0;         // completed meetings
};

}  // namespace comet
