// SPDX-License-Identifier: Apache-2.0
// comet bench: flags, and the cases that they ask for, one after the other.
#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.hpp"
#include "cli/bench_cases.hpp"
#include "cli/bench_demo.hpp"
#include "cli/bench_progress.hpp"
#include "cli/bench_report.hpp"
#include "cli/commands.hpp"
#include "cli/exit_code.hpp"
#include "cli/file_flags.hpp"
#include "cli/flags.hpp"
#include "cli/interrupt.hpp"
#include "cli/json_lines.hpp"
#include "cli/output.hpp"
#include "cli/trace_set.hpp"
#include "measure/bench_case.hpp"
#include "measure/bench_weights.hpp"
#include "measure/row_json.hpp"
#include "trace/timeline_svg.hpp"

namespace comet::cli {
namespace {

constexpr const char* kPromise =
    "\ncomet: finishing the case in hand; Ctrl-C again to stop at once\n";

struct BenchCommand {
  bool demo = false;
  std::string beside_demo;  ///< A flag that was given, of those that --demo has no use for.
  BenchCaseFlags of;
  std::string cases;
  std::string json;
  std::string svg;
};

// A case and the command that runs it, for the record.
struct RecordedBench {
  PlannedBench planned;
  std::string command;
};

// The arguments as they were typed, but --cases and its file.
std::string command_without_cases() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string text;
  bool is_file = false;  // of --cases
  for (std::string argument; std::getline(file, argument, '\0');) {
    const bool is_dropped = is_file || argument.starts_with("--cases");
    is_file = argument == "--cases";
    if (!is_dropped) text += (text.empty() ? "" : " ") + argument;
  }
  return text;
}

std::vector<RecordedBench> planned_benches(const BenchCommand& command, const Ranks& ranks) {
  const std::string typed = command_without_cases();
  std::vector<RecordedBench> benches;
  if (!command.cases.empty()) {
    check(!command.demo && command.svg.empty(), ErrorCode::invalid_argument,
          "[flags] --cases: not with --demo or --svg");
    check(ranks.kind() == "local", ErrorCode::unsupported,
          "[flags] --cases: only for ranks of one process, --world local");
    for (const CaseLine& line : read_case_lines(command.cases, command.of)) {
      try {
        benches.push_back({plan_bench_case(line.of, ranks), typed + " " + line.text});
      } catch (const Error& error) {
        fail(error.code(), "[cases] {}: {}", line.place, error.what());
      }
    }
    return benches;
  }
  if (command.demo) {
    const Backend backend = command.of.flags.backend;
    check(backend == Backend::cpu, ErrorCode::invalid_argument,
          "[flags] --demo runs on cpu; on {} give --model", to_string(backend));
    check(command.beside_demo.empty(), ErrorCode::invalid_argument,
          "[flags] --demo: not with {}; what it runs is fixed but for --seed, --json and --svg",
          command.beside_demo);
    for (PlannedBench& planned : demo_benches(command.of.flags.seed)) {
      ranks.check_fits(planned.bench.backend, planned.bench.link);
      benches.push_back({std::move(planned), typed});
    }
    return benches;
  }
  return {{plan_bench_case(command.of, ranks), typed}};
}

void show_case(const PlannedBench& planned, const std::vector<BenchRow>& rows,
               const std::string& svg) {
  print(bench_text(planned.bench, planned.divisors, rows));
  finish_output();  // a case at a time, as it is done
  if (svg.empty() || !planned.is_drawn) return;
  write_timeline_svg(timeline_set(planned, rows), svg);
  print(fmt::format("  picture of one call of each: {}\n", svg));
}

// The first of the flags given that --demo would ignore, or nothing.
std::string flag_beside_demo(const CLI::App& command) {
  constexpr std::string_view kUseful[] = {"--demo", "--seed",  "--json",
                                          "--svg",  "--cases", "--backend"};  // refused apart
  for (const CLI::Option* const option : command.get_options()) {
    const std::string name = option->get_name();
    if (option->count() > 0 && std::ranges::find(kUseful, name) == std::end(kUseful)) return name;
  }
  return {};
}

int run_bench_command(const BenchCommand& command, const Ranks& ranks) {
  check_apart({"--svg", command.svg}, {"--json", command.json});
  check_apart({"--json", command.json}, {"--cases", command.cases});
  std::vector<RecordedBench> benches = planned_benches(command, ranks);
  std::optional<JsonLines> json;
  if (!command.json.empty() && ranks.is_first()) json.emplace(command.json);
  if (!command.svg.empty() && ranks.is_first()) check_writable(command.svg, "trace");
  std::optional<Interrupt> interrupt;
  if (!command.cases.empty()) interrupt.emplace(kPromise);
  BenchWeightsCache weights;
  BenchMeter meter(static_cast<int>(benches.size()));
  if (command.demo) print(demo_introduction());
  for (auto& [planned, typed] : benches) {
    if (interrupt && interrupt->is_requested()) return kExitInterrupted;
    BenchCase& bench = planned.bench;
    meter.next_case(bench.model);
    bench.record = planned.is_drawn && !command.svg.empty();
    if (!command.cases.empty()) bench.weights = weights.weights_of(bench);
    const std::vector<BenchRow> rows = run_bench(
        bench, [&](const BenchProgress& progress) { meter.show(progress); }, ranks.runner());
    bench.weights.reset();
    if (!ranks.is_first()) continue;
    meter.clear();
    if (json) {
      std::vector<std::string> lines;
      for (const BenchRow& row : rows) lines.push_back(row_json(bench, row, make_origin(typed)));
      json->append(lines);
    }
    show_case(planned, rows, command.svg);
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
  add_bench_case_flags(*command, chosen->of);
  CLI::Option* const dtype = command->get_option("--dtype");
  add_file(*command, "--cases", chosen->cases,
           "Run many cases in this process: each line of the file has flags that add to or "
           "replace those given here");
  add_file(*command, "--json", chosen->json,
           "Add one JSON object a line per schedule to this file; docs/benchmarks.md has the keys");
  add_file(*command, "--svg", chosen->svg, "Draw one call of each schedule, see comet trace");
  command->footer(
      examples(
          "  comet bench --demo\n"
          "  comet bench --model qwen2-moe --scale demo --world local:4 --link paced:auto:0.6\n"
          "  comet bench --experts 8 --topk 2 --hidden 512 --intermediate 1024 --tokens 2048 \\\n"
          "      --ep 2 --link paced:0.5 --json out.jsonl\n"
          "  comet bench --model mixtral --tokens 8192 --world local:8 --backend cuda --link "
          "paced:20\n"
          "  comet bench --model qwen2-moe --scale demo --world local:2 --link paced:0.5 \\\n"
          "      --choices 1:64:0/0,4:64:0/0\n") +
      "With --cases, Ctrl-C finishes the case in hand; the rows so far are kept.\n");
  command->callback([chosen, command, dtype, &context] {
    if (chosen->demo) chosen->beside_demo = flag_beside_demo(*command);
    chosen->of.flags.is_dtype_given = dtype->count() > 0;
    context.world = &chosen->of.flags.world.world;
    context.ranks_backend = &chosen->of.flags.backend;
    context.command = [chosen](Ranks& ranks) { return run_bench_command(*chosen, ranks); };
  });
}

}  // namespace comet::cli
