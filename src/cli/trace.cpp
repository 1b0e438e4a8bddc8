// SPDX-License-Identifier: Apache-2.0
// comet trace: what every worker and link does during one call of each schedule, as a file for
// trace viewers and as a picture.
#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.hpp"
#include "base/read_number.hpp"
#include "cli/bench_flags.hpp"
#include "cli/bench_progress.hpp"
#include "cli/commands.hpp"
#include "cli/exit_code.hpp"
#include "cli/file_flags.hpp"
#include "cli/flags.hpp"
#include "cli/output.hpp"
#include "cli/trace_report.hpp"
#include "cli/trace_set.hpp"
#include "trace/chrome_json.hpp"
#include "trace/timeline_svg.hpp"

namespace comet::cli {
namespace {

struct TraceCommand {
  BenchFlags flags;
  std::vector<int> ranks;
  std::string out;
  std::string svg;
};

std::vector<int> parse_ranks(const std::string& text) {
  std::vector<int> ranks;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const auto rank = read_number<int>(std::string_view(text).substr(begin, end - begin));
    check(rank && *rank >= 0, ErrorCode::invalid_argument,
          "[flags] --ranks: '{}', ranks with commas between", text);
    ranks.push_back(*rank);
    begin = end + 1;
  }
  return ranks;
}

PlannedBench plan_trace(const TraceCommand& command, const Ranks& ranks) {
  check(!command.out.empty() || !command.svg.empty(), ErrorCode::invalid_argument,
        "[flags] nothing to write: --out FILE.json, --svg FILE.svg, or both");
  PlannedBench planned = plan_bench(command.flags, ranks);
  planned.bench.rounds = 3;  // the median one is shown
  planned.bench.record = true;
  const bool is_cuda = planned.bench.backend == Backend::cuda;
  if (is_cuda && command.flags.schedules.empty()) planned.bench.schedules = {Schedule::comet};
  for (const Schedule schedule : planned.bench.schedules) {
    check(!is_cuda || schedule == Schedule::comet, ErrorCode::invalid_argument,
          "[flags] --schedules: {} records no work on cuda; comet", to_string(schedule));
    check(schedule != Schedule::reference, ErrorCode::invalid_argument,
          "[flags] --schedules: reference records no work; sequential, pipelined or comet");
  }
  const std::int64_t num_ranks = planned.bench.parallel.world_size();
  for (const int rank : command.ranks) {
    check(rank < num_ranks, ErrorCode::invalid_argument, "[flags] --ranks: {}, from 0 to {}", rank,
          num_ranks - 1);
  }
  return planned;
}

int run_trace_command(const TraceCommand& command, const Ranks& ranks) {
  check_apart({"--svg", command.svg}, {"--out", command.out});
  const PlannedBench planned = plan_trace(command, ranks);
  for (const std::string& path : {command.out, command.svg}) {
    if (!path.empty() && ranks.is_first()) check_writable(path, "trace");
  }
  BenchMeter meter(1);
  meter.next_case(planned.bench.model);
  const std::vector<BenchRow> rows = run_bench(
      planned.bench, [&](const BenchProgress& progress) { meter.show(progress); }, ranks.runner());
  if (!ranks.is_first()) return kExitOk;
  meter.clear();
  TimelineSet set = timeline_set(planned, rows);
  set.ranks = command.ranks;
  print(trace_text(set));
  if (!command.out.empty()) {
    write_chrome_json(set, command.out);
    print(
        fmt::format("  trace: {}, for https://ui.perfetto.dev or chrome://tracing\n", command.out));
  }
  if (!command.svg.empty()) {
    write_timeline_svg(set, command.svg);
    print(fmt::format("  picture: {}\n", command.svg));
  }
  return kExitOk;
}

}  // namespace

void add_trace(CLI::App& app, Context& context) {
  const auto chosen = std::make_shared<TraceCommand>();
  CLI::App* command = app.add_subcommand(
      "trace", "Record what every worker and link does in one call of each schedule");
  add_case_flags(*command, chosen->flags);
  describe_auto_link(*command);
  add_backend(*command, chosen->flags.backend);
  CLI::Option* const dtype = command->get_option("--dtype");
  dtype->default_str("f32, bf16 on cuda");
  add_schedule_flags(*command, chosen->flags);
  command->get_option("--schedules")->default_str("all but reference, comet on cuda");
  add_file(*command, "--out", chosen->out, "Write a trace for Perfetto and chrome://tracing")
      ->type_name("FILE.json");
  add_file(*command, "--svg", chosen->svg, "Draw the schedules one under the other")
      ->type_name("FILE.svg");
  add_parsed(*command, "--ranks", chosen->ranks, parse_ranks, "RANKS",
             "Show only these, with commas between; all of them run")
      ->default_str("all");
  command->footer(examples(
      "  comet trace --model qwen2-moe --scale demo --world local:4 --link paced:auto:0.6 "
      "--svg out.svg\n"
      "  comet trace --experts 8 --topk 2 --hidden 512 --intermediate 1024 --tokens 2048 \\\n"
      "      --ep 2 --link paced:0.5 --schedules comet --groups 2 --out out.json\n"
      "  comet trace --model qwen2-moe --tokens 8192 --world local:8 --backend cuda --link "
      "paced:20 --svg out.svg\n"));
  command->callback([chosen, dtype, &context] {
    chosen->flags.is_dtype_given = dtype->count() > 0;
    context.world = &chosen->flags.world.world;
    context.ranks_backend = &chosen->flags.backend;
    context.command = [chosen](Ranks& ranks) { return run_trace_command(*chosen, ranks); };
  });
}

}  // namespace comet::cli
