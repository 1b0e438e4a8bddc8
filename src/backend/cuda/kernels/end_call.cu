// SPDX-License-Identifier: Apache-2.0
// The end of a call, and the small kernels of measurements.
#include "backend/cuda/device/bounded_wait.cuh"
#include "backend/cuda/host/preload.hpp"
#include "backend/cuda/kernels/call_kernels.hpp"
#include "backend/cuda/kernels/launch.cuh"

namespace comet::cuda {
namespace {

constexpr int kThreads = 256;

// Both bfloat16 and half read it as a quiet NaN.
constexpr std::uint16_t kNan = 0x7fff;

__device__ void fill_with_nan(const CallParams& p) {
  for (std::int32_t row = static_cast<std::int32_t>(blockIdx.x); row < p.y_rows;
       row += static_cast<std::int32_t>(gridDim.x)) {
    auto* y = reinterpret_cast<std::uint16_t*>(p.y + row * p.y_stride_bytes);
    for (std::int64_t column = threadIdx.x; column < p.dims.hidden; column += kThreads) {
      y[column] = kNan;
    }
  }
}

// One thread. The host reads it once the stream has passed the kernel. What it says is copied
// first, so that loads come together: stores to the report, which might be anything, would part
// them.
__device__ void report_call(const CallParams& p) {
  CallReport& report = *p.report;
  const CallState& state = *p.state;
  const CallTimes times = state.times;
  const DevicePlanCounters counters = *p.plan.counters;
  const std::uint32_t epoch = state.epoch;
  const std::int64_t metadata_bytes = state.metadata_bytes_in;
  p.state->all_tiles[1] = counters.num_tiles;
  report.epoch = epoch;
  report.num_rows = counters.num_rows;
  report.num_tiles = counters.num_tiles;
  report.tokens_in = counters.tokens_in;
  report.tokens_out = counters.tokens_out;
  report.metadata_bytes_in = metadata_bytes + counters.tokens_in * p.dims.weight_bytes();
  report.times = times;
  report.times.end_ns = global_timer();
  if (state.fault.kind == CallFaultKind::none || report.fault.kind != CallFaultKind::none) return;
  report.fault_epoch = state.epoch;
  report.fault = state.fault;
  if (state.fault.kind != CallFaultKind::published) return;
  const auto* header = reinterpret_cast<const CallHeader*>(p.peers[state.fault.rank] +
                                                           p.layout.header[state.epoch & 1U]);
  for (std::size_t i = 0; i < sizeof(report.sentence); ++i) {
    report.sentence[i] = header->sentence[i];
  }
  // The rank may have died since its header was read, see read_source.
  __threadfence_system();
  if (load_relaxed_system(&header->epoch) != state.epoch) report.sentence[0] = '\0';
}

__global__ void __launch_bounds__(kThreads) end_call_kernel(const __grid_constant__ CallParams p) {
  wait_for_kernels_before();
  const CallState& state = *p.state;
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    report_call(p);
    if (state.abandoned == 0) tell_progress(p.world, state.epoch, Stage::idle, -1);
    *p.world.busy = 0;
  }
  if (state.abandoned != 0 || state.fault.kind != CallFaultKind::none) fill_with_nan(p);
}

__global__ void start_line_kernel(const __grid_constant__ DeviceWorld world,
                                  std::uint32_t* missed) {
  const auto size = static_cast<std::uint32_t>(world.start_size);
  const std::uint32_t before = atomicAdd_system(world.start_line, 1U);
  const std::uint32_t all = before - before % size + size;
  const unsigned long long begin = global_timer();
  while (!is_epoch_reached(load_acquire_system(world.start_line), all)) {
    if (!look_out(world).has_failed && global_timer() - begin < world.timeout_ns) continue;
    if (missed != nullptr) *missed = 1;
    return;
  }
}

__global__ void stamp_kernel(unsigned long long* stamp) { *stamp = global_timer(); }

}  // namespace

void launch_end_call(const CallParams& params, int num_blocks, Follow follow, cudaStream_t stream) {
  launch_kernel(end_call_kernel, static_cast<unsigned>(num_blocks), kThreads, 0, stream, follow,
                "launching the end of a call", params);
}

void launch_start_line(const DeviceWorld& world, std::uint32_t* missed, cudaStream_t stream) {
  launch_after_all(start_line_kernel, 1, 1, 0, stream, "launching a start line", world, missed);
}

void launch_stamp(unsigned long long* stamp, cudaStream_t stream) {
  launch_after_all(stamp_kernel, 1, 1, 0, stream, "launching a time stamp", stamp);
}

void preload_end_kernels() {
  preload(end_call_kernel);
  preload(start_line_kernel);
  preload(stamp_kernel);
}

}  // namespace comet::cuda
