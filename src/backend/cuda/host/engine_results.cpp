// SPDX-License-Identifier: Apache-2.0
// What CudaEngine reads back of calls: figures, faults of a call, failures of the world.
#include <atomic>
#include <chrono>

#include "backend/cuda/host/engine.hpp"
#include "base/check.hpp"
#include "layout/call_fault.hpp"

namespace comet::cuda {
namespace {

// What a rank waited for, after "for rank 3".
std::string what_expired(const DeviceExpiry& expiry) {
  const auto stage = static_cast<Stage>(expiry.stage);
  if (stage == Stage::publish) return " to enter its call";
  if (expiry.block < 0) return stage == Stage::dispatch_gemm ? "'s tokens" : "'s products";
  const std::string tokens = fmt::format("tokens {} to {}", expiry.block * kTokenBlock,
                                         (expiry.block + 1) * kTokenBlock - 1);
  if (expiry.panel < 0) return "'s " + tokens;
  return fmt::format("'s partial sums of panel {}, {}", expiry.panel, tokens);
}

double microseconds(unsigned long long begin_ns, unsigned long long end_ns) {
  return end_ns > begin_ns ? static_cast<double>(end_ns - begin_ns) * 1e-3 : 0.0;
}

}  // namespace

CallStats CudaEngine::finish() {
  device_.make_current();
  const std::string trouble = device_.drain();
  if (!trouble.empty()) {
    world_.await_cause();
    world_.report_failure(ErrorCode::internal,
                          fmt::format("[forward] rank {}: its GPU says: {}", world_.rank, trouble));
  }
  rethrow_failure();
  rethrow_fault();
  if (trace_ != nullptr) {
    device_trace_->append_to(*trace_, device_.world(), report_->times, multiprocessors_);
    trace_ = nullptr;
  }
  const CallReport& report = *report_;
  CallStats stats;
  stats.t_layer_us = microseconds(report.times.begin_ns, report.times.end_ns);
  stats.t_publish_us = microseconds(report.times.begin_ns, report.times.published_ns);
  stats.t_plan_us = microseconds(report.times.published_ns, report.times.planned_ns);
  stats.t_dispatch_us = microseconds(report.times.planned_ns, report.times.dispatched_ns);
  stats.t_combine_us = microseconds(report.times.computed_ns, report.times.end_ns);
  stats.rows = report.num_rows;
  stats.tiles = report.num_tiles;
  stats.dispatch_bytes_in = stats.combine_bytes_out = report.tokens_in * dims_.row_bytes();
  stats.dispatch_bytes_out = stats.combine_bytes_in = report.tokens_out * dims_.row_bytes();
  stats.metadata_bytes_in = report.metadata_bytes_in;
  return stats;
}

// Whether a call that is done has a fault that nobody asked for. Its last kernel writes it, so a
// call that may still be running has none yet.
bool CudaEngine::has_fault() {
  if (std::atomic_ref(report_->fault.kind).load() == CallFaultKind::none) return false;
  const cudaStream_t stream = device_.last_stream();
  return stream != nullptr && !is_capturing(stream) && cudaStreamQuery(stream) == cudaSuccess;
}

void CudaEngine::rethrow_earlier() {
  if (std::atomic_ref(*device_.world().failed).load() != 0) rethrow_failure();
  if (has_earlier_fault_) rethrow_fault();
}

// The first rank whose wait expired wrote why before it told the others; any host may report it.
void CudaEngine::rethrow_failure() {
  const std::uint32_t failed = std::atomic_ref(*device_.world().failed).load();
  if (failed != 0 && failed != kHostFailed && !world_.failures->failed()) {
    const auto reporter = static_cast<std::int32_t>(failed - 1);
    const DeviceExpiry& expiry = device_.world().expiries[reporter];
    const std::string sentence =
        fmt::format("[{}] rank {} waited {} ms for rank {}{}, expected call {}, seen {}; {}",
                    to_string(static_cast<Stage>(expiry.stage)), reporter,
                    std::chrono::duration_cast<std::chrono::milliseconds>(world_.timeout).count(),
                    expiry.source, what_expired(expiry), expiry.expected, expiry.seen,
                    world_.progress->describe_cause(expiry.source));
    world_.failures->report(reporter, ErrorCode::timeout, sentence);
    for (int peer = 0; peer < world_.size; ++peer) world_.doorbells[peer]->ring();
  }
  if (world_.failures->failed()) world_.failures->rethrow(world_.rank);
}

void CudaEngine::rethrow_fault() {
  CallReport& report = *report_;
  const CallFault fault = report.fault;
  if (fault.kind == CallFaultKind::none) return;
  report.fault = {};
  std::string sentence;
  if (fault.kind == CallFaultKind::mismatch) {
    sentence = fmt::format(
        "[publish] ranks 0 and {} run different layers, schedules or options in call {}",
        fault.rank, report.fault_epoch);
  } else if (fault.kind == CallFaultKind::capacity) {
    sentence = fmt::format("[plan] EP rank {} needs {} rows (whole tiles of {}), max_rows is {}",
                           fault.rank, fault.detail.a, dims_.block_m, max_rows_);
  } else if (report.sentence[0] != '\0') {
    sentence = report.sentence;
  } else {
    sentence = input_fault_sentence(dims_, fault.rank, fault.detail);
  }
  throw Error(static_cast<ErrorCode>(fault.code - 1), sentence);
}

double CudaEngine::replay_compute() {
  device_.make_current();
  const cudaStream_t stream = device_.partition().stream();
  device_.queue_start_line();
  launch_stamp(stamps_, stream);
  queue_products(state_.data()->all_tiles, nullptr, multiprocessors_, Follow::closely, stream);
  launch_stamp(stamps_ + 1, stream);
  check_cuda(cudaStreamSynchronize(stream), "computing");
  return microseconds(stamps_[0], stamps_[1]);
}

}  // namespace comet::cuda
