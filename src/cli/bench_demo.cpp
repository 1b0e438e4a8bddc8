// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_demo.hpp"

#include <string_view>
#include <utility>

#include "models/presets.hpp"

namespace comet::cli {
namespace {

constexpr std::string_view kModels[] = {"mixtral-8x7b", "qwen2-moe-2.7b", "phi-3.5-moe"};
constexpr std::string_view kDrawnModel = "qwen2-moe-2.7b";
constexpr std::int64_t kRanks = 4;
constexpr std::int64_t kWholeTokens = 16384;
// Three cases and their set-up fit 45 seconds on slow machines: rounds are left out first.
constexpr double kSoftLimitSeconds = 9;
constexpr double kOracleSeconds = 1;

}  // namespace

std::string demo_introduction() {
  return "What overlap gains: the MoE layers of three models in small, on 4 ranks that are threads "
         "of this process.\nThe link between them is emulated: every transfer takes the time that "
         "the stated rate asks for.\n";
}

std::vector<PlannedBench> demo_benches(std::uint64_t seed) {
  std::vector<PlannedBench> planned;
  for (const std::string_view model : kModels) {
    PlannedBench next;
    BenchCase& bench = next.bench;
    bench.suite = "demo";
    bench.model = model;
    bench.desc = make_desc(find_preset(model), 0, DType::f32);
    bench.parallel = {.ep = kRanks, .tp = 1};
    bench.tokens = kWholeTokens;
    bench.link = {.kind = LinkSpec::Kind::paced, .auto_ratio = 0.6};
    bench.schedules = {Schedule::sequential, Schedule::comet};
    bench.groups = 1;
    bench.seed = seed;
    bench.check_seconds = kOracleSeconds;
    bench.soft_limit_seconds = kSoftLimitSeconds;
    next.divisors = scale_for({.kind = Scale::Kind::demo}, bench.desc, bench.tokens);
    apply(next.divisors, bench.parallel.tp, bench.desc, bench.tokens);
    next.is_drawn = model == kDrawnModel;
    // Tuning pipelined's chunks takes as long as all else, so only the picture's model has it.
    if (next.is_drawn) bench.schedules.insert(bench.schedules.begin() + 1, Schedule::pipelined);
    planned.push_back(std::move(next));
  }
  return planned;
}

}  // namespace comet::cli
