// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <mutex>
#include <optional>
#include <thread>

#include "base/check.hpp"
#include "base/int_math.hpp"
#include "layer/backends.hpp"
#include "layout/layer_dims.hpp"
#include "measure/bench_case.hpp"
#include "measure/bench_rank.hpp"
#include "measure/halving.hpp"

namespace comet {
namespace {

void check_case(const BenchCase& bench) {
  check(bench.rounds >= 1 && bench.warmup >= 0, ErrorCode::invalid_argument,
        "[bench] rounds {} and warm-up {}: at least 1 and 0", bench.rounds, bench.warmup);
  check(!bench.schedules.empty() && !bench.chunk_degrees.empty(), ErrorCode::invalid_argument,
        "[bench] {} schedules and {} chunk degrees: at least one each", bench.schedules.size(),
        bench.chunk_degrees.size());
  for (std::size_t i = 0; i < bench.schedules.size(); ++i) {
    check(std::count(bench.schedules.begin(), bench.schedules.end(), bench.schedules[i]) == 1,
          ErrorCode::invalid_argument, "[bench] schedule {}: named more than once",
          to_string(bench.schedules[i]));
  }
  check(bench.finalists >= 1, ErrorCode::invalid_argument, "[bench] finalists: 0, at least 1");
  require_backend(bench.backend);
}

// About how many calls comet's tuning makes, and the rounds of choices beyond the first.
std::int64_t comet_trials(const BenchCase& bench) {
  const std::size_t own = bench.groups > 0 ? 2 : 6;
  const std::size_t given = bench.comet_options.size();
  if (given == 0) return static_cast<std::int64_t>(halving_trials(own, kFinalists));
  const std::size_t places = std::min(given, bench.finalists);
  const std::size_t trials =
      given <= places ? 0 : halving_trials(given, std::max(places, kFinalists));
  return static_cast<std::int64_t>(trials) +
         static_cast<std::int64_t>(places - 1) * std::int64_t{bench.rounds};
}

// Steps that BenchRank reports, about; warm-up calls are not reported.
std::int64_t count_steps(const BenchCase& bench) {
  const auto degrees = static_cast<std::int64_t>(bench.chunk_degrees.size());
  std::int64_t steps = 2 + 3;  // the first call, the check, sequential's panels
  for (const Schedule schedule : bench.schedules) {
    steps += bench.rounds;
    const int splits = bench.backend == Backend::cuda ? 4 : 2;
    if (schedule == Schedule::pipelined) steps += 1 + 2 * splits * degrees;
    if (schedule == Schedule::comet) steps += 1 + comet_trials(bench);
  }
  return steps;
}

}  // namespace

// One thread per processor in all. More threads than processors only displace each other's tiles
// from the caches: 4 ranks on 2 processors took 408 ms with one worker each and 443 with two.
int default_workers(std::int64_t world) {
  const std::int64_t processors = std::max(1U, std::thread::hardware_concurrency());
  return static_cast<int>(std::clamp<std::int64_t>(processors / world, 1, 64));
}

std::vector<BenchRow> run_bench(const BenchCase& bench, const ProgressSink& progress,
                                const WorldRunner& run_world) {
  check_case(bench);
  const MoeDesc desc = BenchData::describe(bench);
  const auto world = static_cast<int>(bench.parallel.world_size());
  LayerDims dims = make_layer_dims(desc, bench.parallel, 0);
  dims.block_m = bench.block_m;
  dims.block_n = bench.block_n;
  choose_layer_tile(bench.backend, dims);
  const std::int64_t wished_panel =
      bench.panel > 0 ? std::min(bench.panel, dims.hidden) : ceil_div(dims.hidden, 8);
  BenchShared shared{
      .bench = bench,
      .data = {},
      .progress = progress,
      .block_m = dims.block_m,
      .block_n = dims.block_n,
      .panel = round_up(wished_panel, dims.panel_n),
      .panel_n = dims.panel_n,
      .workers = bench.workers > 0 ? bench.workers : default_workers(world),
      .steps_planned = count_steps(bench),
      .expected = std::vector<std::vector<std::byte>>(world),
      .recorded = std::vector(bench.schedules.size() + 1 + bench.comet_options.size(),
                              std::vector<RecordedCall>(world)),
      .rows = {}};
  const bool is_auto =
      bench.link.kind == LinkSpec::Kind::paced && bench.link.gigabytes_per_second == 0;
  if (progress) progress({"making weights and tokens", 0});
  std::once_flag drawn;  // by one thread for all ranks of the process
  run_world(world, {.link = is_auto ? LinkSpec{} : bench.link, .backend = bench.backend},
            [&](World& ranks) {
              std::call_once(drawn, [&] {
                shared.data.emplace(bench, is_one_process(ranks) ? std::optional<int>()
                                                                 : std::optional(ranks.rank()));
              });
              BenchRank(shared, ranks).run();
            });
  return shared.rows;
}

}  // namespace comet
