// SPDX-License-Identifier: Apache-2.0
// ControlBlock: the words that the processes of a world share, besides its symmetric memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "comet/world.hpp"
#include "comm/doorbell.hpp"
#include "comm/process/process_group.hpp"
#include "comm/process/shared_memory.hpp"

namespace comet {

/// The first failure of any rank. Whoever changes `state` from none to written writes the rest and
/// then releases it with there.
struct FailureRecord {
  enum State : std::uint32_t { none, written, there };
  static constexpr std::size_t kMaxSentence = 2000;

  std::atomic<std::uint32_t> state{none};
  std::int32_t rank = 0;
  std::int32_t code = 0;  ///< ErrorCode as a number.
  std::uint32_t length = 0;
  char sentence[kMaxSentence] = {};
};

/// What a rank shows at a meeting, see Post. A payload that is longer takes several meetings.
struct SharedPost {
  static constexpr std::size_t kMaxPayload = 4096;

  std::int32_t call = 0;
  LinkSpec link = {};
  std::uint64_t bytes = 0;  ///< Of the whole.
  std::int32_t fd = -1;     ///< allocate: of the rank's own pages, or -1 if it has none.
  std::byte payload[kMaxPayload] = {};
};
static_assert(std::is_trivially_copyable_v<SharedPost>);

/// One rank's words; it alone writes them unless they say otherwise.
struct Member {
  Doorbell doorbell;  ///< Rung by all.
  /// Meetings that the rank has entered. Set back by rank 0 in a recovery.
  alignas(64) std::atomic<std::uint64_t> meetings{0};
  std::atomic<std::int32_t> pid{0};
  std::atomic<std::uint32_t> has_left{0};  ///< The rank is done with the world.
  /// In a recovery, see ProcessRecovery. Also written by rank 0.
  std::atomic<std::uint32_t> recovery{0};
  std::atomic<std::uint32_t> epoch{0};
  std::atomic<std::int64_t> gave_up_ns{
      0};               ///< When the rank gave up a recovery last, steady clock.
  SharedPost posts[2];  ///< [meeting % 2]
};

/// What all share; lies in rank 0's part. The words of the ProgressBoard, one per rank, follow it.
struct SharedWords {
  FailureRecord failure;
  std::atomic<std::uint32_t> recoveries{0};       ///< Completed ones; written by rank 0.
  std::atomic<std::uint32_t> recovered_epoch{0};  ///< Of the last one.
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// This process's addresses of them, and its mappings. Collective to make. Throws
/// Error(capacity or unsupported).
class ControlBlock {
 public:
  explicit ControlBlock(ProcessGroup& group);

  int size() const noexcept { return static_cast<int>(members_.size()); }
  Member& member(int rank) const noexcept { return *members_[static_cast<std::size_t>(rank)]; }
  SharedWords& shared() const noexcept { return *shared_; }
  /// [size] for a ProgressBoard.
  std::atomic<std::uint64_t>* progress_words() const noexcept { return progress_words_; }

  /// Wakes every rank's sleepers.
  void ring_all() const noexcept {
    for (Member* member : members_) member->doorbell.ring();
  }

 private:
  std::vector<SharedMemory> parts_;  // [size]
  SharedWords* shared_ = nullptr;
  std::atomic<std::uint64_t>* progress_words_ = nullptr;  // [size]
  std::vector<Member*> members_;                          // [size]
};

}  // namespace comet
