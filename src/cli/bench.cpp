// SPDX-License-Identifier: Apache-2.0
// comet bench: flags, and the cases that they ask for, one after the other.
#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/check.hpp"
#include "cli/bench_demo.hpp"
#include "cli/bench_flags.hpp"
#include "cli/bench_progress.hpp"
#include "cli/bench_report.hpp"
#include "cli/commands.hpp"
#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/json_lines.hpp"
#include "cli/output.hpp"
#include "cli/trace_set.hpp"
#include "measure/bench_case.hpp"
#include "measure/row_json.hpp"
#include "trace/timeline_svg.hpp"

namespace comet::cli {
namespace {

struct BenchCommand {
  bool demo = false;
  bool no_graphs = false;
  std::string suite = "bench";
  BenchFlags flags;
  std::int64_t rounds = 5;
  std::int64_t warmup = 1;
  std::string json;
  std::string svg;
};

// The command as it was typed, for the record.
std::string command_line() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  while (!text.empty() && text.back() == '\0') text.pop_back();
  for (char& c : text) {
    if (c == '\0') c = ' ';
  }
  return text;
}

std::vector<PlannedBench> planned_benches(const BenchCommand& command, const Ranks& ranks) {
  if (command.demo) {
    check(command.flags.backend == Backend::cpu, ErrorCode::invalid_argument,
          "[flags] --demo runs on cpu; on {} give --model", to_string(command.flags.backend));
    std::vector<PlannedBench> demo = demo_benches(command.flags.seed);
    for (const PlannedBench& planned : demo) {
      ranks.check_fits(planned.bench.backend, planned.bench.link);
    }
    return demo;
  }
  PlannedBench planned = plan_bench(command.flags, ranks);
  planned.bench.suite = command.suite;
  planned.bench.graphs = !command.no_graphs;
  planned.bench.rounds = static_cast<int>(command.rounds);
  planned.bench.warmup = static_cast<int>(command.warmup);
  return {planned};
}

int run_bench_command(const BenchCommand& command, const Ranks& ranks) {
  std::vector<PlannedBench> benches = planned_benches(command, ranks);
  for (PlannedBench& planned : benches) {
    planned.bench.record = planned.is_drawn && !command.svg.empty();
  }
  std::optional<JsonLines> json;
  if (!command.json.empty() && ranks.is_first()) json.emplace(command.json);
  if (!command.svg.empty() && ranks.is_first()) check_writable(command.svg);
  const std::string typed = command_line();
  BenchMeter meter(static_cast<int>(benches.size()));
  if (command.demo) print(demo_introduction());
  for (const PlannedBench& planned : benches) {
    meter.next_case(planned.bench.model);
    const std::vector<BenchRow> rows = run_bench(
        planned.bench, [&](const BenchProgress& progress) { meter.show(progress); },
        ranks.runner());
    if (!ranks.is_first()) continue;
    meter.clear();
    print(bench_text(planned.bench, planned.divisors, rows));
    finish_output();  // a case at a time, as it is done
    if (json) {
      std::vector<std::string> lines;
      for (const BenchRow& row : rows) {
        lines.push_back(row_json(planned.bench, row, make_origin(typed)));
      }
      json->append(lines);
    }
    if (!command.svg.empty() && planned.is_drawn) {
      write_timeline_svg(timeline_set(planned, rows), command.svg);
      print(fmt::format("  picture of one call of each: {}\n", command.svg));
    }
  }
  return kExitOk;
}

}  // namespace

void add_bench(CLI::App& app, Context& context) {
  const auto chosen = std::make_shared<BenchCommand>();
  CLI::App* command = app.add_subcommand(
      "bench", "Time the schedules of a layer beside each other, after checking their results");
  command->add_flag("--demo", chosen->demo,
                    "Three models in small on 4 ranks with an emulated link, in under a minute");
  add_case_flags(*command, chosen->flags);
  add_backend(*command, chosen->flags.backend);
  CLI::Option* const dtype = command->get_option("--dtype");
  dtype->default_str("f32, bf16 on cuda");
  add_schedule_flags(*command, chosen->flags);
  add_integer(*command, {"--rounds", "Timed calls of each schedule, interleaved", 1, 1'000'000},
              chosen->rounds)
      ->group(kSchedulesGroup);
  add_integer(*command,
              {"--warmup", "Untimed calls of each schedule before; cuda: at least 3", 0, 1'000'000},
              chosen->warmup)
      ->group(kSchedulesGroup);
  command
      ->add_flag("--no-graphs", chosen->no_graphs,
                 "cuda: launch every call anew in place of replaying it from a CUDA graph")
      ->group(kSchedulesGroup);
  command->add_option("--suite", chosen->suite, "What rows of --json say that they belong to")
      ->type_name("NAME")
      ->capture_default_str();
  command
      ->add_option("--json", chosen->json,
                   "Add one JSON object a line per schedule to this file; docs/benchmarks.md has "
                   "the keys")
      ->type_name("FILE");
  command->add_option("--svg", chosen->svg, "Draw one call of each schedule, see comet trace")
      ->type_name("FILE");
  command->footer(examples(
      "  comet bench --demo\n"
      "  comet bench --model qwen2-moe --scale demo --world local:4 --link paced:auto:0.6\n"
      "  comet bench --experts 8 --topk 2 --hidden 512 --intermediate 1024 --tokens 2048 \\\n"
      "      --ep 2 --link paced:0.5 --json out.jsonl\n"
      "  comet bench --model mixtral --tokens 8192 --world local:8 --backend cuda --link "
      "paced:20\n"));
  command->callback([chosen, dtype, &context] {
    chosen->flags.is_dtype_given = dtype->count() > 0;
    context.world = &chosen->flags.world.world;
    context.ranks_backend = &chosen->flags.backend;
    context.command = [chosen](Ranks& ranks) { return run_bench_command(*chosen, ranks); };
  });
}

}  // namespace comet::cli
