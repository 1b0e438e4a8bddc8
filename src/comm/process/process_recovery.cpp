// SPDX-License-Identifier: Apache-2.0
#include "comm/process/process_recovery.hpp"

#include <algorithm>
#include <chrono>
#include <vector>

#include "base/check.hpp"

namespace comet {
namespace {

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

std::uint32_t ProcessRecovery::meet(const WorldView& view,
                                    const std::function<void(std::uint32_t epoch)>& reset) {
  // A rank that died cannot ring.
  constexpr std::chrono::milliseconds kLongestSleep(50);
  SharedWords& shared = control_.shared();
  Member& own = control_.member(view.rank);
  const std::uint32_t recoveries = shared.recoveries.load(std::memory_order_acquire);
  const std::int64_t began_ns = now_ns();
  own.epoch.store(view.epoch, std::memory_order_relaxed);
  own.recovery.store(here, std::memory_order_seq_cst);
  control_.member(0).doorbell.ring();
  const auto deadline = std::chrono::steady_clock::now() + view.timeout;
  while (true) {
    const std::uint32_t rung = own.doorbell.value();
    if (view.rank == 0 && take_all()) {
      const std::uint32_t epoch = latest_epoch();
      reset(epoch);
      shared.recovered_epoch.store(epoch, std::memory_order_relaxed);
      for (int rank = 0; rank < control_.size(); ++rank) {
        control_.member(rank).recovery.store(away, std::memory_order_relaxed);
      }
      shared.recoveries.store(recoveries + 1, std::memory_order_release);
      control_.ring_all();
      return epoch;
    }
    if (shared.recoveries.load(std::memory_order_acquire) != recoveries) {
      return shared.recovered_epoch.load(std::memory_order_relaxed);
    }
    const auto now = std::chrono::steady_clock::now();
    if (now >= deadline) {
      std::uint32_t state = here;
      own.gave_up_ns.store(now_ns(), std::memory_order_relaxed);
      // Once taken, rank 0 lets go at once.
      if (own.recovery.compare_exchange_strong(state, away)) {
        fail(ErrorCode::timeout, "[world] rank {} waited {} ms in recover for {}", view.rank,
             std::chrono::duration_cast<std::chrono::milliseconds>(view.timeout).count(),
             missing_since(view.rank, began_ns));
      }
    }
    own.doorbell.sleep(rung, std::min(std::max(deadline, now + std::chrono::milliseconds(1)),
                                      now + kLongestSleep));
  }
}

// All or none: who gives up meanwhile is not taken.
bool ProcessRecovery::take_all() const noexcept {
  for (int rank = 0; rank < control_.size(); ++rank) {
    std::uint32_t state = here;
    if (control_.member(rank).recovery.compare_exchange_strong(state, taken)) continue;
    for (int before = 0; before < rank; ++before) {
      control_.member(before).recovery.store(here, std::memory_order_seq_cst);
    }
    return false;
  }
  return true;
}

// Epochs of ranks differ by one at most: a rank begins e + 1 only after all have begun e.
std::uint32_t ProcessRecovery::latest_epoch() const noexcept {
  std::uint32_t latest = control_.member(0).epoch.load(std::memory_order_relaxed);
  for (int rank = 1; rank < control_.size(); ++rank) {
    const std::uint32_t epoch = control_.member(rank).epoch.load(std::memory_order_relaxed);
    if (static_cast<std::int32_t>(epoch - latest) > 0) latest = epoch;
  }
  return latest;
}

// Ranks whose waits ended between are not missing: they had come, only not all at once with the
// others.
std::string ProcessRecovery::missing_since(int rank, std::int64_t began_ns) const {
  std::vector<int> never_here, not_here;
  for (int other = 0; other < control_.size(); ++other) {
    const Member& member = control_.member(other);
    if (other == rank || member.recovery.load(std::memory_order_seq_cst) != away) continue;
    not_here.push_back(other);
    if (member.gave_up_ns.load(std::memory_order_relaxed) < began_ns) never_here.push_back(other);
  }
  const std::vector<int>& missing = never_here.empty() ? not_here : never_here;
  return fmt::format("{} {}", missing.size() == 1 ? "rank" : "ranks", fmt::join(missing, ", "));
}

}  // namespace comet
