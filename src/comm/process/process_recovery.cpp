// SPDX-License-Identifier: Apache-2.0
#include "comm/process/process_recovery.hpp"

#include <fmt/format.h>

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

ProcessRecovery::Outcome ProcessRecovery::meet(const WorldView& view) {
  // A rank that died cannot ring.
  constexpr std::chrono::milliseconds kLongestSleep(50);
  Member& own = control_.member(view.rank);
  const std::uint32_t number = done_ + 1;
  const std::int64_t began_ns = now_ns();
  own.epoch.store(view.epoch, std::memory_order_relaxed);
  own.gave_up.store(0, std::memory_order_relaxed);
  own.came_to.store(number, std::memory_order_seq_cst);
  control_.ring_all();
  if (remote_ != nullptr) remote_->tell_came();
  const auto deadline = std::chrono::steady_clock::now() + view.timeout;
  while (true) {
    const std::uint32_t rung = own.doorbell.value();
    if (view.rank == 0) decide(number);
    if (may_leave(number)) break;
    const auto now = std::chrono::steady_clock::now();
    if (now >= deadline) {
      own.gave_up_ns.store(now_ns(), std::memory_order_relaxed);
      own.gave_up.store(number, std::memory_order_seq_cst);
      if (remote_ != nullptr) remote_->tell_gave_up();
      fail(ErrorCode::timeout, "[world] rank {} waited {} ms in recover for {}", view.rank,
           std::chrono::duration_cast<std::chrono::milliseconds>(view.timeout).count(),
           missing_since(view.rank, number, began_ns));
    }
    own.doorbell.sleep(rung, std::min(deadline, now + kLongestSleep));
  }
  // Recoveries that went on without this rank count too.
  const RecoveryDecision& decision = control_.member(0).decision;
  done_ = decision.number.load(std::memory_order_acquire);
  return {done_, decision.epoch.load(std::memory_order_relaxed),
          decision.meeting.load(std::memory_order_relaxed)};
}

bool ProcessRecovery::is_waiting(int rank, std::uint32_t number) const noexcept {
  const Member& member = control_.member(rank);
  return member.came_to.load(std::memory_order_seq_cst) >= number &&
         member.gave_up.load(std::memory_order_seq_cst) < number;
}

// Rank 0, once. Epochs of ranks differ by one at most: a rank begins e + 1 only after all have
// begun e.
void ProcessRecovery::decide(std::uint32_t number) const {
  RecoveryDecision& decision = control_.member(0).decision;
  if (decision.number.load(std::memory_order_relaxed) >= number) return;
  std::uint32_t epoch = control_.member(0).epoch.load(std::memory_order_relaxed);
  std::uint64_t meeting = 0;
  for (int rank = 0; rank < control_.size(); ++rank) {
    if (!is_waiting(rank, number)) return;
    const Member& member = control_.member(rank);
    const std::uint32_t other = member.epoch.load(std::memory_order_relaxed);
    if (static_cast<std::int32_t>(other - epoch) > 0) epoch = other;
    meeting = std::max(meeting, member.meeting.load(std::memory_order_seq_cst));
  }
  decision.epoch.store(epoch, std::memory_order_relaxed);
  decision.meeting.store(meeting, std::memory_order_relaxed);
  decision.number.store(number, std::memory_order_release);
  control_.ring_all();
  if (remote_ != nullptr) remote_->tell_decision();
}

// A rank of another host that has come has sent all it will send of what failed, and connections
// keep the order.
bool ProcessRecovery::may_leave(std::uint32_t number) const noexcept {
  if (control_.member(0).decision.number.load(std::memory_order_acquire) < number) return false;
  for (int rank = 0; rank < control_.size(); ++rank) {
    if (control_.is_here(rank)) continue;
    if (control_.member(rank).came_to.load(std::memory_order_acquire) < number) return false;
  }
  return true;
}

// Ranks whose waits ended between are not missing: they had come, only not all at once with the
// others.
std::string ProcessRecovery::missing_since(int rank, std::uint32_t number,
                                           std::int64_t began_ns) const {
  std::vector<int> never_here, not_here;
  for (int other = 0; other < control_.size(); ++other) {
    const Member& member = control_.member(other);
    if (other == rank || is_waiting(other, number)) continue;
    not_here.push_back(other);
    if (member.gave_up_ns.load(std::memory_order_relaxed) < began_ns) never_here.push_back(other);
  }
  const std::vector<int>& missing = never_here.empty() ? not_here : never_here;
  return fmt::format("{} {}", missing.size() == 1 ? "rank" : "ranks", fmt::join(missing, ", "));
}

}  // namespace comet
