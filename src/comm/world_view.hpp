// SPDX-License-Identifier: Apache-2.0
// WorldView: what workers see of a world, plain pointers without virtual calls.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>

#include "comm/device_ranks.hpp"
#include "comm/doorbell.hpp"
#include "comm/failure_board.hpp"
#include "comm/paced_link.hpp"
#include "comm/progress_board.hpp"
#include "comm/remote_ranks.hpp"

namespace comet {

/// One rank's view. Everything it points to belongs to the World and lives as long as it.
struct WorldView {
  int rank = 0;
  int size = 1;
  Doorbell* const* doorbells = nullptr;  ///< [size] one per rank.
  PacedLink* link = nullptr;
  FailureBoard* failures = nullptr;
  ProgressBoard* progress = nullptr;
  RemoteRanks* remote = nullptr;  ///< Null if all ranks' memory can be reached.
  DeviceRank* device = nullptr;   ///< This rank's GPU; null on cpu.
  bool are_processes = false;     ///< The other ranks are other processes.
  /// Of a host whose ranks are processes: a word that they share, for who runs them; else null.
  std::uint32_t* host_word = nullptr;
  /// Calls that this rank has begun, of all layers together. Only its own thread uses it. On cuda
  /// the device counts instead.
  std::uint32_t epoch = 0;
  std::chrono::steady_clock::duration timeout{};

  Doorbell& doorbell() const noexcept { return *doorbells[rank]; }

  bool is_remote(int peer) const noexcept { return remote != nullptr && remote->is_remote(peer); }

  /// Stores `value` to a slot in `peer`'s memory with release order, so that a reader who acquires
  /// it sees all that this thread wrote, or put if the peer is remote, before; then wakes the
  /// peer's sleepers.
  void signal(int peer, std::uint32_t* slot, std::uint32_t value) const {
    if (is_remote(peer)) return remote->signal(peer, slot, value);
    std::atomic_ref<std::uint32_t>(*slot).store(value, std::memory_order_release);
    doorbells[peer]->ring();
  }

  /// A process that dies breaks its peers' GPU contexts before anybody sees it dead: gives the
  /// world time to fail of that.
  void await_cause() const {
    constexpr std::chrono::milliseconds kLongest(1500);
    if (!are_processes) return;
    const auto deadline = std::chrono::steady_clock::now() + kLongest;
    while (!failures->failed() && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  /// Records a fault of this rank and wakes every rank's sleepers, so that their waits end at once.
  /// Returns false if the world had failed already.
  bool report_failure(ErrorCode code, const std::string& sentence) const {
    const bool first = failures->report(rank, code, sentence);
    for (int peer = 0; peer < size; ++peer) doorbells[peer]->ring();
    return first;
  }
};

/// Slots hold the epoch of their last signal and a fast peer may already show a later one, so
/// epochs compare by signed distance. Acquires what the signal released.
inline bool has_reached(std::uint32_t* slot, std::uint32_t epoch) noexcept {
  const std::uint32_t seen = std::atomic_ref<std::uint32_t>(*slot).load(std::memory_order_acquire);
  return static_cast<std::int32_t>(seen - epoch) >= 0;
}

}  // namespace comet
