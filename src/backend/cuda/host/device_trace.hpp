// SPDX-License-Identifier: Apache-2.0
// DeviceTrace: what kernels record, and its way to a Trace of the host.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "backend/cuda/host/cuda_error.hpp"
#include "backend/cuda/kernels/call_kernels.hpp"
#include "backend/cuda/kernels/trace_ring.hpp"

namespace comet::cuda {

/// One rank's events of one call.
class DeviceTrace {
 public:
  DeviceTrace();

  const TraceRing& ring() const noexcept { return ring_; }
  /// Queues that nothing is recorded yet.
  void queue_clear(cudaStream_t stream) const;
  /// Appends the events of the rank of `world` in a call that is done and took `times`, by the
  /// host's steady clock. Of the stages before the fused kernel, a copy of x beside the plan is
  /// shown as worker `copier`'s, the others as worker 0's.
  void append_to(Trace& trace, const DeviceWorld& world, const CallTimes& times,
                 std::int32_t copier) const;

 private:
  static constexpr std::uint32_t kCapacity = 1U << 18;  // 8 MB

  DeviceBuffer<TraceRecord> records_;
  DeviceBuffer<std::uint32_t> count_;
  TraceRing ring_;
};

}  // namespace comet::cuda
