// SPDX-License-Identifier: Apache-2.0
#include "measure/tune_case.hpp"

#include <algorithm>

#include "base/check.hpp"
#include "base/int_math.hpp"
#include "measure/build_info.hpp"
#include "measure/row_json.hpp"
#include "tune/predict.hpp"

namespace comet {
namespace {

constexpr std::int64_t kPartitionStep = 8;  // multiprocessors of ranks that share a GPU

// The layer, its tokens and its link; who computes is known before or after a run.
TuneCase bare_case(const BenchCase& bench, const LinkSpec& link) {
  TuneCase of;
  of.model = bench.model;
  of.desc = bench.desc;
  of.parallel = bench.parallel;
  of.tokens = bench.tokens;
  of.backend = bench.backend;
  of.link = link;
  of.link.auto_ratio = 0;  // a rate is a rate however it was found
  return of;
}

int ranks_on_device(const BenchCase& bench, std::int64_t devices) {
  return static_cast<int>(ceil_div(bench.parallel.world_size(), max_of(1, devices)));
}

MeasuredCase measured_case(const TuneCase& of, const BenchRow& row) {
  return {.of = of,
          .schedule = row.schedule,
          .config = to_config(row.options, row.block_m, row.block_n),
          .t_layer_us = row.t_layer_us,
          .t_compute_us = row.schedule == Schedule::sequential ? row.t_compute_us : 0};
}

}  // namespace

TuneCase tune_case_of(const BenchCase& bench, int device_workers, int devices) {
  check(bench.link.kind != LinkSpec::Kind::paced || bench.link.gigabytes_per_second > 0,
        ErrorCode::invalid_argument, "[tune] link {}: a profile needs the rate, paced:<GB/s>",
        to_string(bench.link));
  check(bench.routing.kind == SyntheticRouting::Kind::uniform, ErrorCode::invalid_argument,
        "[tune] routing {}: a profile is of uniform routing", bench.routing_text);
  TuneCase of = bare_case(bench, bench.link);
  if (bench.backend == Backend::cuda) {
    of.ranks_per_device = ranks_on_device(bench, devices);
    of.workers = device_workers;
    if (of.ranks_per_device > 1) {
      const std::int64_t share = device_workers / of.ranks_per_device;
      of.workers = static_cast<int>(max_of(1, share - share % kPartitionStep));
    }
    return of;
  }
  const std::int64_t ranks = bench.parallel.world_size();
  of.ranks_per_device = static_cast<int>(ranks);
  of.workers = bench.workers > 0 ? bench.workers : default_workers(ranks);
  return of;
}

TunedCase run_tune_case(const BenchCase& bench, const MachineModel& machine,
                        const std::vector<TuneConfig>& configs, const ProgressSink& progress) {
  BenchCase asked = bench;
  asked.schedules = {Schedule::sequential, Schedule::comet};
  for (const TuneConfig& config : configs) {
    asked.comet_options.push_back(to_options(config, Schedule::comet));
  }
  const std::vector<BenchRow> rows = run_bench(asked, progress);
  const BenchRow& sequential = rows[0];
  const BenchRow& best = rows[1];
  TuneCase of = bare_case(bench, best.link);
  of.workers = best.workers;
  of.ranks_per_device = ranks_on_device(bench, best.num_devices);
  TunedCase tuned{
      .row = {.of = of,
              .best = {to_config(best.options, best.block_m, best.block_n), best.t_layer_us},
              .runner_up = {},
              .commit = build_commit(),
              .date = make_origin("").date},
      .sequential_us = sequential.t_layer_us,
      .predicted_us = 0,
      .checked_tokens = sequential.checked_tokens,
      .measured = {measured_case(of, sequential), measured_case(of, best)}};
  tuned.predicted_us = predict(machine, of, Schedule::comet, tuned.row.best.config).t_layer_us;
  if (best.runner_up) {
    tuned.row.runner_up =
        TimedConfig{to_config(*best.runner_up, best.block_m, best.block_n), best.runner_up_us};
    tuned.measured.push_back({.of = of,
                              .schedule = Schedule::comet,
                              .config = tuned.row.runner_up->config,
                              .t_layer_us = best.runner_up_us});
  }
  return tuned;
}

std::vector<std::vector<TuneConfig>> calibration_configs(const TuneCase& of) {
  const bool on_gpus = of.backend == Backend::cuda;
  const auto pair = [&](Placement placement, int n_c) {
    const TuneConfig one{
        .groups = 1, .n_c_dispatch = n_c, .n_c_combine = n_c, .placement = placement};
    TuneConfig four = one;
    four.groups = 4;
    return std::vector<TuneConfig>{one, four};
  };
  std::vector<std::vector<TuneConfig>> pairs = {pair(Placement::warps, on_gpus ? of.workers : 0)};
  if (on_gpus && of.workers > 4) pairs.push_back(pair(Placement::blocks, 2));
  return pairs;
}

}  // namespace comet
