// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/host/timer_origin.hpp"

#include <algorithm>
#include <limits>

#include "backend/cuda/host/cuda_error.hpp"
#include "backend/cuda/kernels/call_kernels.hpp"
#include "base/trace_span.hpp"

namespace comet::cuda {

std::int64_t find_timer_origin(cudaStream_t stream) {
  constexpr int kReadings = 20;
  const DeviceBuffer<unsigned long long> stamp(1);
  std::int64_t origin = std::numeric_limits<std::int64_t>::max();
  for (int i = 0; i < kReadings; ++i) {
    launch_stamp(stamp.data(), stream);
    check_cuda(cudaStreamSynchronize(stream), "reading the global timer");
    const std::int64_t host_ns = trace_now_ns();
    unsigned long long gpu_ns = 0;
    stamp.copy_to(&gpu_ns);
    // The host sees a stamp late and never early, so the least is the nearest.
    origin = std::min(origin, host_ns - static_cast<std::int64_t>(gpu_ns));
  }
  return origin;
}

}  // namespace comet::cuda
