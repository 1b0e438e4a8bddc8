// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/host/device_trace.hpp"

#include <algorithm>
#include <vector>

namespace comet::cuda {

DeviceTrace::DeviceTrace() : records_(kCapacity), count_(1) {
  ring_ = {records_.data(), count_.data(), kCapacity};
}

void DeviceTrace::queue_clear(cudaStream_t stream) const {
  check_cuda(cudaMemsetAsync(count_.data(), 0, count_.bytes(), stream), "clearing a trace");
}

void DeviceTrace::append_to(Trace& trace, const DeviceWorld& world, const CallTimes& times,
                            std::int32_t copier) const {
  std::uint32_t count = 0;
  count_.copy_to(&count);
  std::vector<TraceRecord> records(kCapacity);
  records_.copy_to(records.data());
  records.resize(std::min(count, kCapacity));
  const auto host_time = [&](unsigned long long ns) {
    return static_cast<std::int64_t>(ns) + world.timer_origin_ns;
  };
  const auto add_stage = [&](TraceKind kind, std::int32_t worker, unsigned long long begin,
                             unsigned long long end) {
    trace.push_back({.kind = kind,
                     .rank = world.rank,
                     .worker = worker,
                     .begin_ns = host_time(begin),
                     .end_ns = host_time(end)});
  };
  add_stage(TraceKind::publish, 0, times.begin_ns, times.published_ns);
  add_stage(TraceKind::plan, 0, times.published_ns, times.planned_ns);
  if (times.tokens_begin_ns != 0) {
    add_stage(TraceKind::publish, copier, times.tokens_begin_ns, times.tokens_end_ns);
  }
  for (const TraceRecord& record : records) {
    trace.push_back({.kind = record.kind,
                     .rank = world.rank,
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
