// SPDX-License-Identifier: Apache-2.0
#include "cli/trace_set.hpp"

#include <fmt/core.h>

#include <thread>

#include "base/count_text.hpp"
#include "cli/bench_report.hpp"
#include "trace/bench_timelines.hpp"

namespace comet::cli {
namespace {

std::string call_text(std::int64_t threads) {
  std::string text = "One call of each schedule, the one of median time.";
  const std::int64_t processors = std::thread::hardware_concurrency();
  if (processors > 0 && threads > processors) {
    text += fmt::format(
        " {} workers share {} processors: a bar includes the time in which its worker was not "
        "running.",
        threads, processors);
  }
  return text;
}

}  // namespace

TimelineSet timeline_set(const PlannedBench& planned, const std::vector<BenchRow>& rows) {
  const BenchCase& bench = planned.bench;
  const std::int64_t ranks = bench.parallel.world_size();
  TimelineSet set;
  set.title = fmt::format("One MoE layer of {} on {}", bench.model, count_text(ranks, "rank"));
  set.timelines = bench_timelines(bench, rows);
  set.captions = case_lines(bench, planned.divisors, rows.front());
  const bool is_cpu = bench.backend == Backend::cpu;
  set.captions.push_back(call_text(is_cpu ? ranks * rows.front().workers : 0));
  return set;
}

}  // namespace comet::cli
