// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/host/device_trace.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <mutex>
#include <vector>

#include "backend/cuda/kernels/call_kernels.hpp"
#include "base/trace_span.hpp"

namespace comet::cuda {
namespace {

// What to add to the global timer of the current GPU, number `device`, for the clock of traces;
// read once, so that the events of all its ranks lie as they lay to each other. GPUs have a timer
// each.
std::int64_t clock_offset(int device, cudaStream_t stream) {
  constexpr int kReadings = 20;
  static std::mutex mutex;
  static std::map<int, std::int64_t> offsets;
  const std::lock_guard lock(mutex);
  const auto known = offsets.find(device);
  if (known != offsets.end()) return known->second;
  DeviceBuffer<unsigned long long> stamp(1);
  unsigned long long device_ns = 0;
  std::int64_t offset = std::numeric_limits<std::int64_t>::max();
  for (int i = 0; i < kReadings; ++i) {
    launch_stamp(stamp.data(), stream);
    check_cuda(cudaStreamSynchronize(stream), "reading the global timer");
    const std::int64_t host_ns = trace_now_ns();
    stamp.copy_to(&device_ns);
    // The host sees a stamp late, so the least of them is the nearest.
    offset = std::min(offset, host_ns - static_cast<std::int64_t>(device_ns));
  }
  return offsets.emplace(device, offset).first->second;
}

}  // namespace

DeviceTrace::DeviceTrace() : records_(kCapacity), count_(1) {
  ring_ = {records_.data(), count_.data(), kCapacity};
}

void DeviceTrace::queue_clear(cudaStream_t stream) const {
  check_cuda(cudaMemsetAsync(count_.data(), 0, count_.bytes(), stream), "clearing a trace");
}

void DeviceTrace::append_to(Trace& trace, std::int32_t rank, const CallTimes& times, int device,
                            cudaStream_t stream) const {
  std::uint32_t count = 0;
  count_.copy_to(&count);
  std::vector<TraceRecord> records(kCapacity);
  records_.copy_to(records.data());
  records.resize(std::min(count, kCapacity));
  const std::int64_t offset = clock_offset(device, stream);
  const auto host_time = [&](unsigned long long ns) {
    return static_cast<std::int64_t>(ns) + offset;
  };
  const auto add_stage = [&](TraceKind kind, unsigned long long begin, unsigned long long end) {
    trace.push_back(
        {.kind = kind, .rank = rank, .begin_ns = host_time(begin), .end_ns = host_time(end)});
  };
  add_stage(TraceKind::publish, times.begin_ns, times.published_ns);
  add_stage(TraceKind::plan, times.published_ns, times.planned_ns);
  for (const TraceRecord& record : records) {
    trace.push_back({.kind = record.kind,
                     .rank = rank,
                     .worker = record.worker,
                     .begin_ns = host_time(record.begin_ns),
                     .end_ns = host_time(record.end_ns),
                     .group = -1,
                     .tile = record.tile,
                     .panel = record.panel,
                     .peer = record.peer});
  }
}

}  // namespace comet::cuda
