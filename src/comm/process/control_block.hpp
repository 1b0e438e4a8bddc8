// SPDX-License-Identifier: Apache-2.0
// ControlBlock: the words that the processes of a world share, besides its symmetric memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "comet/world.hpp"
#include "comm/doorbell.hpp"
#include "comm/process/hosts.hpp"
#include "comm/process/process_group.hpp"
#include "comm/process/shared_memory.hpp"

namespace comet {

/// The first failure of any rank since the last recovery. Generations count recoveries, from 1 on;
/// whoever raises `state` to `writing` of a generation writes the rest and then raises it to
/// `there`. So a record of an earlier generation is stale by itself.
struct FailureRecord {
  static constexpr std::size_t kMaxSentence = 2000;
  static constexpr std::uint64_t writing(std::uint32_t generation) noexcept {
    return std::uint64_t{generation} * 2;
  }
  static constexpr std::uint64_t there(std::uint32_t generation) noexcept {
    return writing(generation) + 1;
  }

  std::atomic<std::uint64_t> state{0};
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

/// What rank 0 has decided of the last recovery: the epoch and the meeting from which all ranks
/// count on. `number` is written last.
struct RecoveryDecision {
  std::atomic<std::uint32_t> number{0};  ///< Recoveries in all.
  std::atomic<std::uint32_t> epoch{0};
  std::atomic<std::uint64_t> meeting{0};
};

/// One rank's words; it alone writes them unless they say otherwise. Of a rank on another host
/// this process has a mirror, written by its network's thread.
struct Member {
  Doorbell doorbell;                                  ///< Rung by all.
  alignas(64) std::atomic<std::uint64_t> meeting{0};  ///< Number of the last one it has entered.
  std::atomic<std::int32_t> pid{0};
  std::atomic<std::uint32_t> has_left{0};  ///< The rank is done with the world.
  // In recovery number `came_to` the rank waits, with `epoch` calls begun, unless it has given up.
  std::atomic<std::uint32_t> came_to{0};
  std::atomic<std::uint32_t> gave_up{0};  ///< The recovery that it gave up, or 0.
  std::atomic<std::uint32_t> epoch{0};
  std::atomic<std::int64_t> gave_up_ns{0};  ///< When it gave up last, steady clock here.
  RecoveryDecision decision;                ///< Rank 0's only.
  SharedPost posts[2];                      ///< [meeting % 2]
};

/// What the ranks of a host share; lies in the part of the first of them. The words of the
/// ProgressBoard, one per rank of the world, follow it.
struct SharedWords {
  FailureRecord failure;
  std::uint32_t word = 0;  ///< WorldView::host_word; read and written by std::atomic_ref.
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// This process's addresses of them, and its mappings. Collective to make. Throws
/// Error(capacity or unsupported).
class ControlBlock {
 public:
  ControlBlock(ProcessGroup& group, const Hosts& hosts);

  int size() const noexcept { return static_cast<int>(members_.size()); }
  bool is_here(int rank) const noexcept { return hosts_.is_here(rank); }
  Member& member(int rank) const noexcept { return *members_[static_cast<std::size_t>(rank)]; }
  SharedWords& shared() const noexcept { return *shared_; }
  /// [size] for a ProgressBoard.
  std::atomic<std::uint64_t>* progress_words() const noexcept { return progress_words_; }

  /// Wakes the sleepers of every rank of this host.
  void ring_all() const noexcept {
    for (Member* member : members_) member->doorbell.ring();
  }

 private:
  void map_parts(ProcessGroup& group, std::size_t bytes);

  const Hosts& hosts_;
  std::vector<SharedMemory> parts_;  // [size], of ranks here
  std::vector<std::unique_ptr<Member>> mirrors_;
  SharedWords* shared_ = nullptr;
  std::atomic<std::uint64_t>* progress_words_ = nullptr;  // [size]
  std::vector<Member*> members_;                          // [size]
};

}  // namespace comet
