// SPDX-License-Identifier: Apache-2.0
// Recording of intervals by kernels. Off, it is one test of a kernel argument.
#pragma once

#include "backend/cuda/device/memory_order.cuh"
#include "backend/cuda/kernels/trace_ring.hpp"

namespace comet::cuda {

__device__ __forceinline__ unsigned long long trace_begin(const TraceRing& ring) {
  return ring.records == nullptr ? 0 : global_timer();
}

/// Records [begin_ns, end_ns]. One thread.
__device__ __forceinline__ void trace_interval(const TraceRing& ring, TraceRecord record) {
  if (ring.records == nullptr) return;
  const std::uint32_t at = atomicAdd(ring.count, 1U);
  if (at < ring.capacity) ring.records[at] = record;
}

/// Records the interval from `begin_ns` to now. One thread.
__device__ __forceinline__ void trace_end(const TraceRing& ring, unsigned long long begin_ns,
                                          TraceKind kind, std::int32_t worker,
                                          std::int32_t tile = -1, std::int32_t panel = -1,
                                          std::int32_t peer = -1) {
  if (ring.records == nullptr) return;
  trace_interval(ring, {begin_ns, global_timer(), kind, static_cast<std::int16_t>(peer), worker,
                        tile, panel});
}

}  // namespace comet::cuda
