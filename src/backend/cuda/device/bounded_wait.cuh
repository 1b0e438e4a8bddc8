// SPDX-License-Identifier: Apache-2.0
// The one loop in which a kernel waits for another rank. It always ends: by the condition, by the
// world's failure, or by the world's time limit, which fails the world.
#pragma once

#include "backend/cuda/device/memory_order.cuh"
#include "comm/device_ranks.hpp"
#include "comm/progress_board.hpp"

namespace comet::cuda {

/// Of whom, in what, a thread waits.
struct WaitFor {
  Stage stage = Stage::publish;
  std::uint32_t epoch = 0;
  std::int32_t source = 0;
  std::int32_t panel = -1;
  std::int32_t block = -1;
};

__device__ __forceinline__ void tell_progress(const DeviceWorld& world, std::uint32_t epoch,
                                              Stage stage, std::int32_t waits_for) {
  if (world.size == 1) return;  // nobody asks, and a kernel's end waits for its writes over PCIe
  world.progress[world.rank] = pack_progress({epoch, stage, waits_for});
}

/// What a waiting thread sees besides what it waits for.
struct Outlook {
  bool has_failed;   ///< The world has; leave.
  bool is_reporter;  ///< This thread may write to host memory now.
};

/// Whether it is the caller's turn: one of those who ask gets it per `interval` ns. `*next`, in
/// device memory, is when the next may.
__device__ __forceinline__ bool take_turn(unsigned long long* next, unsigned long long interval) {
  const unsigned long long due = load_relaxed_gpu(next);
  const unsigned long long now = global_timer();
  return now >= due && atomicCAS(next, due, now + interval) == due;
}

/// Looks whether the world has failed, in turn: host memory lies behind PCIe, and when 384 waiting
/// warps of a GPU each read it every 131 us, products took 70 times as long (Mixtral on 8 ranks of
/// an H200). So one thread of a rank does per interval, and leaves what it saw to the others.
__device__ __forceinline__ Outlook look_out(const DeviceWorld& world) {
  constexpr unsigned long long kInterval = 50'000;  // ns
  if (load_relaxed_gpu(world.failed_seen) != 0) return {true, false};
  if (!take_turn(world.next_look, kInterval)) return {false, false};
  if (load_relaxed_system(world.failed) == 0) return {false, true};
  atomicExch(world.failed_seen, 1U);
  return {true, false};
}

/// Records that a wait expired, if no rank did before, and ends the waits of all.
__device__ __forceinline__ void report_expiry(const DeviceWorld& world, const WaitFor& wait,
                                              std::uint32_t seen) {
  if (atomicExch_system(world.claim, 1U) != 0) return;
  world.expiries[world.rank] = {.epoch = wait.epoch,
                                .stage = static_cast<std::int32_t>(wait.stage),
                                .source = wait.source,
                                .expected = wait.epoch,
                                .seen = seen,
                                .panel = wait.panel,
                                .block = wait.block};
  store_release_system(world.failed, 1U + static_cast<std::uint32_t>(world.rank));
}

/// Waits for `slot` to hold wait.epoch or a later one and acquires what that signal released.
/// Returns false if the world has failed or the limit is over. One thread calls it; ranks on the
/// other side need nothing of this one to signal, so it may spin.
__device__ __forceinline__ bool wait_for_epoch(const DeviceWorld& world, const std::uint32_t* slot,
                                               const WaitFor& wait) {
  constexpr int kNapsPerLook = 16;
  constexpr unsigned kFirstNap = 64;  // ns; a short wait is seen soon
  constexpr unsigned kLongestNap = 2048;
  constexpr unsigned long long kWorthTelling = 1'000'000;  // ns
  if (is_epoch_reached(load_acquire_system(slot), wait.epoch)) return true;
  const unsigned long long begin = global_timer();
  unsigned nap = kFirstNap;
  bool has_told = false;
  for (int naps = 1; !is_epoch_reached(load_relaxed_system(slot), wait.epoch); ++naps) {
    __nanosleep(nap);
    if (nap < kLongestNap) nap *= 2;
    if (naps % kNapsPerLook != 0) continue;
    const Outlook outlook = look_out(world);
    if (outlook.has_failed) return false;
    const unsigned long long waited = global_timer() - begin;
    if (waited >= world.timeout_ns) {
      report_expiry(world, wait, load_acquire_system(slot));
      return false;
    }
    if (outlook.is_reporter && !has_told && waited > kWorthTelling) {
      tell_progress(world, wait.epoch, wait.stage, wait.source);
      has_told = true;
    }
  }
  load_acquire_system(slot);
  if (has_told) tell_progress(world, wait.epoch, wait.stage, -1);
  return true;
}

/// Waits for the world's failure where it can only come, since what `wait` is for has been lost;
/// fails the world itself once the limit is over. One thread.
__device__ __forceinline__ void wait_for_failure(const DeviceWorld& world, const WaitFor& wait,
                                                 std::uint32_t seen) {
  constexpr unsigned kNap = 2048;  // ns
  const unsigned long long begin = global_timer();
  while (!look_out(world).has_failed) {
    __nanosleep(kNap);
    if (global_timer() - begin < world.timeout_ns) continue;
    report_expiry(world, wait, seen);
    return;
  }
}

/// Sleeps until the global timer shows `end`.
__device__ __forceinline__ void sleep_until(unsigned long long end) {
  while (global_timer() < end) __nanosleep(100);
}

}  // namespace comet::cuda
