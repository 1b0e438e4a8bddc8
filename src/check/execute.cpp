// SPDX-License-Identifier: Apache-2.0
#include "check/execute.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "check/rng.hpp"

namespace comet {
namespace {

constexpr std::uint64_t kRunStream = 2'000'000;

void sleep_us(std::int64_t microseconds) {
  std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
}

// A delay between pieces of work. Which call of the probe meets which number depends on how the
// workers interleave; the numbers themselves come from the seed.
std::function<void(const ProbePoint&)> make_probe(const Case& c, std::uint64_t seed) {
  if (c.delays == DelayKind::none) return {};
  auto count = std::make_shared<std::atomic<std::uint64_t>>(0);
  const auto slow = static_cast<int>(Rng(seed).next() % static_cast<std::uint64_t>(c.world_size()));
  if (c.delays == DelayKind::slow_rank) {
    return [=](const ProbePoint& at) {
      if (at.rank != slow) return;
      Rng rng(seed, count->fetch_add(1, std::memory_order_relaxed));
      if (rng.one_in(8)) sleep_us(rng.between(0, 200));
    };
  }
  return [=](const ProbePoint&) {
    Rng rng(seed, count->fetch_add(1, std::memory_order_relaxed));
    if (!rng.one_in(8)) return;
    if (rng.one_in(4)) {
      sleep_us(rng.between(0, 200));
    } else {
      std::this_thread::yield();
    }
  };
}

// One rank's part of execute().
class RankBody {
 public:
  RankBody(const ExecuteParams& params, World& world, Outputs& outputs)
      : params_(params), world_(world), outputs_(outputs), rank_(world.rank()) {}

  void run_all() {
    const Case& c = params_.c;
    const auto layer = MoeLayer::create(c.desc, c.parallel, params_.weights.ranks[rank_].view,
                                        world_, c.options.at(rank_));
    Rng rng(c.seed ^ c.index, kRunStream + static_cast<std::uint64_t>(rank_));
    for (std::size_t i = 0; i < params_.runs.size(); ++i) {
      // Ranks enter calls at different times.
      if (c.delays != DelayKind::none && rng.one_in(4)) sleep_us(rng.between(0, 300));
      run_one(*layer, params_.runs[i], outputs_[i][rank_]);
    }
  }

 private:
  void run_one(MoeLayer& layer, const Run& run, RunOutput& output) {
    const RankCall& call = params_.calls.at(run.call).at(rank_);
    output.y.assign(call.tokens * call.row_stride * size_of(call.dtype), kCanary);
    ConstMatrixView x = call.x_view();
    RoutingView routing = call.routing_view();
    MatrixView y{output.y.data(), call.tokens, call.hidden, call.row_stride, call.dtype};
    if (run.spoil) run.spoil(rank_, x, routing, y);
    try {
      output.stats = layer.forward(x, routing, y, run.options.at(rank_));
    } catch (const Error& error) {
      output.error = RunError{error.code(), error.what()};
      if (error.code() == ErrorCode::timeout || error.code() == ErrorCode::internal) throw;
    }
  }

  const ExecuteParams& params_;
  World& world_;
  Outputs& outputs_;
  int rank_;
};

}  // namespace

Outputs execute(const ExecuteParams& params) {
  const auto world_size = static_cast<int>(params.c.world_size());
  Outputs outputs(params.runs.size(), std::vector<RunOutput>(world_size));
  params.world(world_size, {.link = params.c.link, .timeout = params.timeout},
               [&](World& world) { RankBody(params, world, outputs).run_all(); });
  return outputs;
}

Run make_run(const Case& c, Schedule schedule, std::uint64_t stream) {
  Rng rng(c.seed ^ (c.index << 20), kRunStream * 2 + stream);
  ForwardOptions shared;
  shared.groups =
      schedule == Schedule::pipelined ? rng.pick<std::int64_t>({1, 2, 4, 8}) : rng.between(1, 4);
  shared.panel = std::min(rng.pick<std::int64_t>({0, 1, 16, 24, 48, 64, 1000}), c.desc.hidden);
  shared.chunk = rng.pick<std::int64_t>({0, 1, 2, 5, 16, 64, 1000});
  return make_run(c, schedule, stream, shared);
}

Run make_run(const Case& c, Schedule schedule, std::uint64_t stream, const ForwardOptions& shared) {
  Rng rng(c.seed ^ (c.index << 20), kRunStream * 3 + stream);
  Run run;
  run.label = fmt::format("{} (run {}, groups {}, panel {}, chunk {}, n_c", to_string(schedule),
                          stream, shared.groups, shared.panel, shared.chunk);
  const std::function<void(const ProbePoint&)> probe = make_probe(c, rng.next());
  for (const LayerOptions& rank : c.options) {
    ForwardOptions options = shared;
    options.schedule = schedule;
    options.n_c_dispatch = static_cast<int>(rng.between(-1, rank.num_workers));
    options.n_c_combine = static_cast<int>(rng.between(-1, rank.num_workers));
    options.probe = probe;
    run.label += fmt::format(" {}/{}", options.n_c_dispatch, options.n_c_combine);
    run.options.push_back(options);
  }
  run.label += ")";
  return run;
}

}  // namespace comet
