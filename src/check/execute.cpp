// SPDX-License-Identifier: Apache-2.0
#include "check/execute.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/check.hpp"
#include "check/rng.hpp"
#include "check/share_outputs.hpp"
#include "comm/world_view.hpp"

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
      : params_(params),
        world_(world),
        outputs_(outputs),
        rank_(world.rank()),
        data_(params.c, params.weights, params.calls, world) {}

  void run_all() {
    const Case& c = params_.c;
    const auto layer =
        MoeLayer::create(c.desc, c.parallel, data_.weights(), world_, c.options.at(rank_));
    Rng rng(c.seed ^ c.index, kRunStream + static_cast<std::uint64_t>(rank_));
    for (std::size_t i = 0; i < params_.runs.size(); ++i) {
      // Ranks enter calls at different times.
      if (c.delays != DelayKind::none && rng.one_in(4)) sleep_us(rng.between(0, 300));
      const Run& run = params_.runs[i];
      if (run.graph > 0) {
        run_graph(*layer, run, outputs_[i][rank_]);
      } else {
        run_plain(*layer, run, outputs_[i][rank_]);
      }
    }
  }

 private:
  const RankCall& call_of(const Run& run) const { return params_.calls.at(run.call).at(rank_); }

  void run_plain(MoeLayer& layer, const Run& run, RunOutput& output) {
    const RankCall& call = call_of(run);
    output.y.assign(call.tokens * call.row_stride * size_of(call.dtype), kCanary);
    CallArguments arguments = data_.arguments(run.call, output.y);
    if (!run.device_tokens.empty()) {
      arguments.routing.device_tokens = data_.device_tokens(run.device_tokens.at(rank_));
    }
    if (run.spoil) run.spoil(rank_, arguments.x, arguments.routing, arguments.y);
    data_.begin(output.y);
    if (params_.lockstep) world_.barrier();
    output.error = error_of([&] {
      layer.forward(arguments.x, arguments.routing, arguments.y, run.options.at(rank_));
      output.stats = layer.check();
    });
    data_.end(output.y);
  }

  void run_graph(MoeLayer& layer, const Run& run, RunOutput& output) {
    CallArguments arguments = data_.roomy_arguments(run.call);
    arguments.routing.device_tokens = data_.device_tokens(
        run.device_tokens.empty() ? call_of(run).tokens : run.device_tokens.at(rank_));
    if (run.spoil) run.spoil(rank_, arguments.x, arguments.routing, arguments.y);
    graphs_.push_back(world_.view().device->capture([&] {
      layer.forward(arguments.x, arguments.routing, arguments.y, run.options.at(rank_));
    }));
    world_.barrier();  // making a graph may wait for kernels, those of other ranks for this one's
    for (int launch = 0; launch < run.graph; ++launch) {
      RunOutput launched = launch_graph(layer, run);
      if (launch == 0) {
        output = std::move(launched);
      } else if (output.difference.empty()) {
        output.difference = difference_of(launched, output, launch);
      }
    }
  }

  RunOutput launch_graph(MoeLayer& layer, const Run& run) {
    const RankCall& call = call_of(run);
    const std::size_t row_bytes = call.row_stride * size_of(call.dtype);
    RunOutput output;
    output.y.assign(data_.room(run.call) * row_bytes, kCanary);
    data_.begin(output.y);
    if (params_.lockstep) world_.barrier();
    output.error = error_of([&] {
      graphs_.back()->launch();
      output.stats = layer.check();
    });
    data_.end(output.y);
    const auto end = output.y.begin() + static_cast<std::ptrdiff_t>(call.tokens * row_bytes);
    if (!output.error.has_value() &&
        !std::all_of(end, output.y.end(), [](std::byte b) { return b == kCanary; })) {
      output.difference = fmt::format("y was written past its {} tokens", call.tokens);
    }
    output.y.erase(end, output.y.end());
    return output;
  }

  static std::string difference_of(const RunOutput& launched, const RunOutput& first, int launch) {
    if (!launched.difference.empty()) return launched.difference;
    const auto sentence = [](const RunOutput& output) {
      return output.error.has_value() ? output.error->sentence : std::string("no error");
    };
    if (sentence(launched) != sentence(first)) {
      return fmt::format("launch {} threw '{}', the first '{}'", launch, sentence(launched),
                         sentence(first));
    }
    return launched.y == first.y ? std::string{}
                                 : fmt::format("launch {} gave other bits than the first", launch);
  }

  // What a call throws; expired waits and faults of Comet itself are passed on.
  static std::optional<RunError> error_of(const std::function<void()>& call) {
    try {
      call();
    } catch (const Error& error) {
      if (error.code() == ErrorCode::timeout || error.code() == ErrorCode::internal) throw;
      return RunError{error.code(), error.what()};
    }
    return std::nullopt;
  }

  const ExecuteParams& params_;
  World& world_;
  Outputs& outputs_;
  int rank_;
  RankData data_;
  std::vector<std::unique_ptr<DeviceGraph>> graphs_;  // kept: freeing one may wait, as making one
};

}  // namespace

Outputs execute(const ExecuteParams& params) {
  const auto world_size = static_cast<int>(params.c.world_size());
  Outputs outputs(params.runs.size(), std::vector<RunOutput>(world_size));
  params.world(world_size,
               {.link = params.c.link, .backend = params.c.backend, .timeout = params.timeout},
               [&](World& world) {
                 RankBody(params, world, outputs).run_all();
                 if (!is_one_process(world)) share_outputs(world, outputs);
               });
  return outputs;
}

Run make_run(const Case& c, Schedule schedule, std::uint64_t stream) {
  Rng rng(c.seed ^ (c.index << 20), kRunStream * 2 + stream);
  ForwardOptions shared;
  shared.groups =
      schedule == Schedule::pipelined ? rng.pick<std::int64_t>({1, 2, 4, 8}) : rng.between(1, 4);
  const bool is_cuda = c.backend == Backend::cuda;
  shared.panel = is_cuda ? rng.pick<std::int64_t>({0, 1, 256, 300, 512, 1000})
                         : rng.pick<std::int64_t>({0, 1, 16, 24, 48, 64, 1000});
  shared.panel = std::min(shared.panel, c.desc.hidden);
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
    // On cuda of multiprocessors, of which a rank has at least 16.
    const int most = c.backend == Backend::cuda ? 8 : rank.num_workers;
    options.n_c_dispatch = static_cast<int>(rng.between(-1, most));
    options.n_c_combine = static_cast<int>(rng.between(-1, most));
    options.probe = probe;
    run.label += fmt::format(" {}/{}", options.n_c_dispatch, options.n_c_combine);
    if (c.backend == Backend::cuda && schedule == Schedule::comet) {
      options.placement = rng.one_in(2) ? Placement::blocks : Placement::warps;
      options.waves = rng.pick<std::int64_t>({0, 1, 2, 3, 8});
      run.label += fmt::format(" {} waves {}", to_string(options.placement), options.waves);
    }
    run.options.push_back(options);
  }
  run.label += ")";
  return run;
}

Run as_graph(Run run, int launches) {
  run.graph = launches;
  run.label += fmt::format(" as a graph, launched {} times", launches);
  return run;
}

}  // namespace comet
