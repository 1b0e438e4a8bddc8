// SPDX-License-Identifier: Apache-2.0
// The emulated link on a GPU, as comm/paced_link.hpp on a host: it moves no bytes, it says when a
// transfer would have ended.
#pragma once

#include "backend/cuda/device/memory_order.cuh"
#include "comm/device_ranks.hpp"

namespace comet::cuda {

/// Moves a clock to max(clock, now) + duration; returns its new value. In two steps, so that
/// contending ranks never repeat: what another books in between only comes first.
__device__ __forceinline__ unsigned long long advance_clock(unsigned long long* clock,
                                                            unsigned long long now,
                                                            unsigned long long duration) {
  atomicMax_system(clock, now);
  return atomicAdd_system(clock, duration) + duration;
}

/// Books `bytes` from rank `source` to rank `destination` from now on and returns when they have
/// arrived, by the global timer; 0, which is past, if the link is not paced or the ranks are the
/// same. One thread.
__device__ __forceinline__ unsigned long long book_transfer(const DeviceWorld& world,
                                                            std::int32_t source,
                                                            std::int32_t destination,
                                                            std::int64_t bytes) {
  const float ns_per_byte = *world.ns_per_byte;
  if (ns_per_byte <= 0 || source == destination) return 0;
  const auto duration =
      static_cast<unsigned long long>(__double2ll_rn(static_cast<double>(bytes) * ns_per_byte));
  const auto origin = static_cast<unsigned long long>(world.timer_origin_ns);
  const unsigned long long now = global_timer() + origin;
  const unsigned long long sent = advance_clock(world.clocks + source, now, duration);
  const unsigned long long received =
      advance_clock(world.clocks + world.size + destination, now, duration);
  return (sent > received ? sent : received) - origin;
}

}  // namespace comet::cuda
