// SPDX-License-Identifier: Apache-2.0
// LaunchedGroup: ranks that are forks of one process, which watches them; no MPI is in it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "comm/doorbell.hpp"
#include "comm/process/process_group.hpp"

namespace comet {

/// Memory that the ranks share with the process that forks them, which makes it before. Lives until
/// the last of them ends.
class LaunchArena {
 public:
  static constexpr std::size_t kSlotBytes = 256;  ///< Of one rank in one turn of an all-gather.

  struct Words {
    Doorbell doorbell;
    std::atomic<std::uint64_t> arrivals{0};  ///< Of ranks at turns of all-gathers, in all.
    std::atomic<std::int32_t> gone{-1};      ///< First rank whose process has ended too early.
    /// Nonzero once a process has said what went wrong. Read and written by std::atomic_ref.
    std::uint32_t told_errors = 0;
  };

  /// Throws Error(capacity).
  explicit LaunchArena(int size);
  ~LaunchArena();
  LaunchArena(const LaunchArena&) = delete;
  LaunchArena& operator=(const LaunchArena&) = delete;

  int size() const noexcept { return size_; }
  Words& words() const noexcept { return *words_; }
  /// Of `rank` in turns of one parity.
  std::byte* slot(std::uint64_t turn, int rank) const noexcept;

  /// Ends the waits of ranks in an all-gather; the first call counts.
  void set_gone(int rank) const noexcept;

 private:
  int size_;
  std::size_t bytes_;
  Words* words_ = nullptr;
};

/// One rank's end, in its process.
class LaunchedGroup final : public ProcessGroup {
 public:
  /// `arena` outlives it. `timeout` bounds every wait for other ranks.
  LaunchedGroup(const LaunchArena& arena, int rank, std::chrono::milliseconds timeout)
      : arena_(arena), rank_(rank), timeout_(timeout) {}

  std::string_view kind() const noexcept override { return "process"; }
  int rank() const noexcept override { return rank_; }
  int size() const noexcept override { return arena_.size(); }
  const LaunchArena& arena() const noexcept { return arena_; }

  /// Throws Error(peer) that names a rank that has ended, Error(timeout) if others do not come.
  void all_gather(const void* in, void* out, std::size_t bytes) override;
  void leave() noexcept override {}

 private:
  void take_turn();

  const LaunchArena& arena_;
  int rank_;
  std::chrono::milliseconds timeout_;
  std::uint64_t turns_ = 0;
};

}  // namespace comet
