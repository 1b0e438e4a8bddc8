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

TimedConfig timed_config(const BenchRow& row) {
  return {to_config(row.options, row.block_m, row.block_n), row.t_layer_us};
}

MeasuredCase measured_case(const TuneCase& of, const BenchRow& row) {
  return {.of = of,
          .schedule = row.schedule,
          .config = timed_config(row).config,
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
  TunedCase tuned{.row = {.of = of,
                          .best = timed_config(best),
                          .runner_up = {},
                          .commit = build_commit(),
                          .date = make_origin("").date},
                  .sequential_us = sequential.t_layer_us,
                  .predicted_us = 0,
                  .checked_tokens = sequential.checked_tokens,
                  .measured = {}};
  tuned.predicted_us = predict(machine, of, Schedule::comet, tuned.row.best.config).t_layer_us;
  if (rows.size() > 2) tuned.row.runner_up = timed_config(rows[2]);
  for (const BenchRow& row : rows) tuned.measured.push_back(measured_case(of, row));
  return tuned;
}

std::vector<TuneConfig> calibration_configs(const TuneCase& of) {
  const bool on_gpus = of.backend == Backend::cuda;
  std::vector<TuneConfig> configs;
  const auto add = [&](Placement placement, int n_c) {
    for (const std::int64_t groups : {1, 4}) {
      configs.push_back(
          {.groups = groups, .n_c_dispatch = n_c, .n_c_combine = n_c, .placement = placement});
    }
  };
  add(Placement::warps, on_gpus ? of.workers : 0);
  if (on_gpus && of.workers > 4) add(Placement::blocks, 2);
  return configs;
}

}  // namespace comet
