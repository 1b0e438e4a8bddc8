// SPDX-License-Identifier: Apache-2.0
#include "measures.hpp"

#include <algorithm>
#include <array>

#include "backend/cuda/host/timer_origin.hpp"
#include "base/check.hpp"
#include "base/int_math.hpp"
#include "link_kernels.hpp"

namespace comet::node {
namespace {

using cuda::check_cuda;
using Runs = std::array<double, kRuns>;

// A run moves kLeastBytes and lasts kWantedMs, so that what a launch costs (microseconds) does not
// count; kMostBytes and kMostMs win over both.
constexpr std::int64_t kProbeBytes = std::int64_t{16} << 20;
constexpr std::int64_t kLeastBytes = std::int64_t{64} << 20;
constexpr std::int64_t kMostBytes = std::int64_t{2} << 30;
constexpr double kWantedMs = 2;
constexpr double kMostMs = 40;

double median_of(Runs runs) {
  std::sort(runs.begin(), runs.end());
  return runs[runs.size() / 2];
}

double spread_of(const Runs& runs) {
  const auto [least, most] = std::minmax_element(runs.begin(), runs.end());
  return *most - *least;
}

class Link {
 public:
  Link(Gpus& gpus, const LinkPoint& point)
      : gpus_(gpus), point_(point), workers_(point.ring ? gpus.size() : 1) {}

  // Rounded up, so that all warps move the same.
  std::uint32_t pieces_per_warp(std::int64_t bytes) const {
    return static_cast<std::uint32_t>(ceil_div(bytes, bytes_of(1)));
  }
  std::int64_t bytes_of(std::uint32_t pieces_per_warp) const {
    return std::int64_t{pieces_per_warp} * point_.blocks * point_.warps * kPieceBytes;
  }

  // Milliseconds of the slowest GPU.
  double run(std::uint32_t pieces_per_warp) {
    gpus_.close_gate();
    for (int g = 0; g < workers_; ++g) start(gpus_[g], pieces_per_warp);
    gpus_.open_gate();
    float slowest_ms = 0;
    for (int g = 0; g < workers_; ++g) {
      check_cuda(cudaEventSynchronize(gpus_[g].end.get()), "moving data");
      float ms = 0;
      check_cuda(cudaEventElapsedTime(&ms, gpus_[g].begin.get(), gpus_[g].end.get()),
                 "reading the time");
      slowest_ms = std::max(slowest_ms, ms);
    }
    return slowest_ms;
  }

  void clear() const {
    for (int g = 0; g < workers_; ++g) {
      const Gpu& gpu = target_of(g);
      gpu.make_current();
      check_cuda(cudaMemsetAsync(gpu.to.data(), 0, gpu.to.bytes(), gpu.stream()),
                 "clearing a buffer");
      check_cuda(cudaStreamSynchronize(gpu.stream()), "clearing a buffer");
    }
  }

  void check_words(std::int64_t bytes) const {
    const auto count = static_cast<std::uint32_t>(min_of(bytes, kBufferBytes) / 4);
    for (int g = 0; g < workers_; ++g) {
      const Gpu& gpu = target_of(g);
      const int source = source_of(g).index;
      const WrongWords none{.count = 0, .first = ~0ULL};
      WrongWords wrong = none;
      gpu.make_current();
      check_cuda(cudaMemcpyAsync(gpu.wrong.data(), &none, sizeof(none), cudaMemcpyHostToDevice,
                                 gpu.stream()),
                 "copying to the device");
      launch_find_wrong(reinterpret_cast<const std::uint32_t*>(gpu.to.data()), count,
                        static_cast<std::uint32_t>(source), gpu.wrong.data(), gpu.stream());
      check_cuda(cudaMemcpyAsync(&wrong, gpu.wrong.data(), sizeof(wrong), cudaMemcpyDeviceToHost,
                                 gpu.stream()),
                 "copying from the device");
      check_cuda(cudaStreamSynchronize(gpu.stream()), "checking what arrived");
      check(wrong.count == 0, ErrorCode::mismatch,
            "[link] {} with {} blocks of {} warps: of {} words from GPU {} on GPU {} are {} wrong, "
            "the first is word {}",
            point_.direction == Direction::pull ? "pull" : "push", point_.blocks, point_.warps,
            count, source, gpu.index, wrong.count, wrong.first);
    }
  }

 private:
  const Gpu& neighbour_of(int g) const { return gpus_[(g + 1) % gpus_.size()]; }
  const Gpu& source_of(int g) const {
    return point_.direction == Direction::pull ? neighbour_of(g) : gpus_[g];
  }
  const Gpu& target_of(int g) const {
    return point_.direction == Direction::pull ? gpus_[g] : neighbour_of(g);
  }

  void start(const Gpu& gpu, std::uint32_t pieces_per_warp) const {
    const LinkWork work{.from = source_of(gpu.index).from.data(),
                        .to = target_of(gpu.index).to.data(),
                        .pieces_per_warp = pieces_per_warp};
    gpu.make_current();
    gpus_.hold(gpu);
    check_cuda(cudaEventRecord(gpu.begin.get(), gpu.stream()), "recording an event");
    const auto launch = point_.direction == Direction::pull ? launch_pull : launch_push;
    launch(work, point_.blocks, point_.warps, gpu.stream());
    check_cuda(cudaEventRecord(gpu.end.get(), gpu.stream()), "recording an event");
  }

  Gpus& gpus_;
  LinkPoint point_;
  int workers_;
};

// The nanoseconds of all timed trips.
double run_ping_pong(const Gpus& gpus, std::uint32_t base) {
  const Gpu* const gpu_of[] = {&gpus[0], &gpus[1 % gpus.size()]};
  PingPong params{.words = {gpu_of[0]->word(0), gpu_of[1]->word(1)},
                  .results = {gpu_of[0]->ping_pongs.data(), gpu_of[1]->ping_pongs.data() + 1},
                  .base = base,
                  .first_role = 0};
  const int num_launches = std::min(gpus.size(), 2);
  for (int i = 0; i < num_launches; ++i) {
    params.first_role = i;
    gpu_of[i]->make_current();
    launch_ping_pong(params, 2 / num_launches, gpu_of[i]->stream());
  }
  for (int i = 0; i < num_launches; ++i) {
    check_cuda(cudaStreamSynchronize(gpu_of[i]->stream()), "exchanging signals");
  }
  double ns = 0;
  for (int role = 0; role < 2; ++role) {
    PingPongResult result{};
    check_cuda(cudaMemcpy(&result, params.results[role], sizeof(result), cudaMemcpyDeviceToHost),
               "copying from the device");
    check(result.expired == 0, ErrorCode::timeout,
          "[signal] GPU {} waited for signal {} of GPU {}: it did not come within {} ms",
          gpu_of[role]->index, result.expired, gpu_of[1 - role]->index, kWaitLimitNs / 1'000'000);
    if (role == 0) ns = static_cast<double>(result.ns);
  }
  return ns;
}

}  // namespace

LinkRate measure_link(Gpus& gpus, const LinkPoint& point) {
  Link link(gpus, point);
  const std::uint32_t probe = link.pieces_per_warp(kProbeBytes);
  const double bytes_per_ms = static_cast<double>(link.bytes_of(probe)) / link.run(probe);
  double wanted = std::max(static_cast<double>(kLeastBytes), bytes_per_ms * kWantedMs);
  wanted = std::min({wanted, static_cast<double>(kMostBytes), bytes_per_ms * kMostMs});
  const std::uint32_t pieces = link.pieces_per_warp(static_cast<std::int64_t>(wanted));
  const std::int64_t bytes = link.bytes_of(pieces);
  link.run(pieces);
  link.clear();
  Runs gbs{};
  for (double& rate : gbs) rate = static_cast<double>(bytes) / (link.run(pieces) * 1e6);
  link.check_words(bytes);
  return {.gbs = median_of(gbs), .gbs_spread = spread_of(gbs), .bytes = bytes};
}

SignalLatency measure_signal(const Gpus& gpus) {
  Runs latencies{};
  std::uint32_t base = 0;
  for (double& ns : latencies) {
    ns = run_ping_pong(gpus, base) / (2.0 * kTimedTrips);
    base += kWarmupTrips + kTimedTrips;
  }
  return {.ns = median_of(latencies), .spread_ns = spread_of(latencies)};
}

std::vector<std::int64_t> find_timer_origins(const Gpus& gpus) {
  std::vector<std::int64_t> origins;
  for (int g = 0; g < gpus.size(); ++g) {
    gpus[g].make_current();
    origins.push_back(cuda::find_timer_origin(gpus[g].stream()));
  }
  return origins;
}

}  // namespace comet::node
