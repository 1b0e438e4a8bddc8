// SPDX-License-Identifier: Apache-2.0
// comet bench: flags, and the cases that they ask for, one after the other.
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "base/check.hpp"
#include "cli/bench_demo.hpp"
#include "cli/bench_progress.hpp"
#include "cli/bench_report.hpp"
#include "cli/bench_scale.hpp"
#include "cli/commands.hpp"
#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/json_lines.hpp"
#include "cli/output.hpp"
#include "cli/shared_flags.hpp"
#include "measure/bench_case.hpp"
#include "measure/row_json.hpp"

namespace comet::cli {
namespace {

constexpr std::int64_t kDefaultTokens = 16384;  // of a whole model, before scaling
constexpr std::int64_t kAuto = -1;

struct BenchFlags {
  bool demo = false;
  ShapeFlags shape;
  WorldFlags world;
  LinkSpec link;
  std::vector<Schedule> schedules = {Schedule::sequential, Schedule::pipelined, Schedule::comet};
  std::string routing = "uniform";
  Scale scale;
  std::int64_t tokens = 0;
  std::int64_t groups = kAuto;
  std::int64_t n_c_dispatch = kAuto;
  std::int64_t n_c_combine = kAuto;
  std::int64_t rounds = 5;
  std::int64_t warmup = 1;
  std::int64_t workers = 0;
  std::int64_t panel = 0;
  std::int64_t block_m = 0;
  std::int64_t block_n = 0;
  std::uint64_t seed = 1;
  std::string json;
};

// A number, or -1 for "auto".
std::int64_t parse_or_auto(const std::string& flag, std::int64_t low, const std::string& text) {
  if (text == "auto") return kAuto;
  std::int64_t value = 0;
  std::istringstream stream(text);
  check(static_cast<bool>(stream >> value) && stream.eof() && value >= low && value <= 1024,
        ErrorCode::invalid_argument, "[flags] {}: '{}', auto or a whole number from {} to 1024",
        flag, text, low);
  return value;
}

std::vector<Schedule> parse_schedules(const std::string& text) {
  std::vector<Schedule> schedules;
  std::istringstream stream(text);
  for (std::string name; std::getline(stream, name, ',');) {
    schedules.push_back(parse_schedule(name));
  }
  check(!schedules.empty(), ErrorCode::invalid_argument,
        "[flags] --schedules: '{}', names of schedules with commas between", text);
  return schedules;
}

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

PlannedBench plan_bench(const BenchFlags& flags) {
  PlannedBench planned;
  BenchCase& bench = planned.bench;
  bench.model = flags.shape.model.empty() ? "custom" : flags.shape.model;
  bench.desc = resolve_shape(flags.shape);
  bench.parallel = resolve_world(flags.world);
  bench.tokens = flags.tokens > 0 ? flags.tokens : kDefaultTokens;
  planned.divisors = scale_for(flags.scale, bench.desc, bench.tokens);
  if (flags.tokens > 0) planned.divisors.tokens = 1;  // what is asked for is what is run
  apply(planned.divisors, bench.parallel.tp, bench.desc, bench.tokens);
  bench.routing = parse_synthetic_routing(flags.routing);
  bench.routing_text = flags.routing;
  bench.link = flags.link;
  bench.schedules = flags.schedules;
  bench.groups = flags.groups == kAuto ? 0 : flags.groups;
  bench.n_c_dispatch = static_cast<int>(flags.n_c_dispatch);
  bench.n_c_combine = static_cast<int>(flags.n_c_combine);
  bench.rounds = static_cast<int>(flags.rounds);
  bench.warmup = static_cast<int>(flags.warmup);
  bench.workers = static_cast<int>(flags.workers);
  bench.panel = flags.panel;
  bench.block_m = flags.block_m;
  bench.block_n = flags.block_n;
  bench.seed = flags.seed;
  return planned;
}

int run_bench_command(const BenchFlags& flags) {
  const std::vector<PlannedBench> planned =
      flags.demo ? demo_benches(flags.seed) : std::vector<PlannedBench>{plan_bench(flags)};
  std::optional<JsonLines> json;
  if (!flags.json.empty()) json.emplace(flags.json);
  const std::string command = command_line();
  BenchMeter meter(static_cast<int>(planned.size()));
  if (flags.demo) print(demo_introduction());
  for (const auto& [bench, divisors] : planned) {
    meter.next_case(bench.model);
    const std::vector<BenchRow> rows =
        run_bench(bench, [&](const BenchProgress& progress) { meter.show(progress); });
    meter.clear();
    print(bench_text(bench, divisors, rows));
    finish_output();  // a case at a time, as it is done
    if (!json) continue;
    std::vector<std::string> lines;
    for (const BenchRow& row : rows) lines.push_back(row_json(bench, row, make_origin(command)));
    json->append(lines);
  }
  return kExitOk;
}

void add_case_flags(CLI::App& app, BenchFlags& flags) {
  add_shape(app, flags.shape);
  add_parsed(app, "--scale", flags.scale, parse_scale, "none|demo|K",
             "Smaller shapes: demo divides tokens and H more than I, so that a CPU's copies stay "
             "small beside its products; K divides all three")
      ->default_str("none");
  add_integer(
      app, {"--tokens", "Tokens of all ranks together, not scaled; 0: 16384, scaled", 0, 1 << 24},
      flags.tokens);
  app.add_option("--routing", flags.routing,
                 "uniform, std:<deviation of shares>, zipf:<exponent>, hot or empty")
      ->type_name("KIND")
      ->capture_default_str();
  add_world(app, flags.world);
  add_link(app, flags.link);
}

void add_schedule_flags(CLI::App& app, BenchFlags& flags) {
  const std::string group = "Schedules";
  const auto add_auto = [&](const std::string& name, std::int64_t low, std::int64_t& value,
                            const std::string& help) {
    add_parsed(
        app, name, value,
        [name, low](const std::string& text) { return parse_or_auto(name, low, text); }, "N|auto",
        help)
        ->default_str("auto")
        ->group(group);
  };
  add_parsed(app, "--schedules", flags.schedules, parse_schedules, "NAMES",
             "Names with commas between: sequential, pipelined, comet, reference")
      ->default_str("sequential,pipelined,comet")
      ->group(group);
  add_auto("--groups", 1, flags.groups, "Groups of tokens of comet");
  add_auto("--n-c-dispatch", 0, flags.n_c_dispatch,
           "Communication workers while tokens are pulled");
  add_auto("--n-c-combine", 0, flags.n_c_combine, "Communication workers after that");
  const auto add = [&](const char* name, const char* help, std::int64_t low, std::int64_t high,
                       std::int64_t& value) {
    add_integer(app, {name, help, low, high}, value)->group(group);
  };
  add("--workers", "Threads of each rank; 0: cores / ranks, at least 2", 0, 1024, flags.workers);
  add("--panel", "Columns of a panel; 0 chooses", 0, 1 << 20, flags.panel);
  add("--block-m", "Rows of a tile; 0 chooses", 0, 1024, flags.block_m);
  add("--block-n", "Columns of a tile; 0 chooses", 0, 65536, flags.block_n);
  add("--rounds", "Timed calls of each schedule, interleaved", 1, 1'000'000, flags.rounds);
  add("--warmup", "Untimed calls of each schedule before", 0, 1'000'000, flags.warmup);
}

}  // namespace

void add_bench(CLI::App& app, Context& context) {
  const auto flags = std::make_shared<BenchFlags>();
  flags->shape.dtype = DType::f32;  // not every processor has products of bf16
  CLI::App* command = app.add_subcommand(
      "bench", "Time the schedules of a layer beside each other, after checking their results");
  command->add_flag("--demo", flags->demo,
                    "Three models in small on 4 ranks with an emulated link, in under a minute");
  add_case_flags(*command, *flags);
  add_schedule_flags(*command, *flags);
  add_unsigned(*command, "--seed", flags->seed, "Of weights, tokens and routing");
  command
      ->add_option("--json", flags->json,
                   "Add one JSON object a line per schedule to this file; docs/benchmarks.md has "
                   "the keys")
      ->type_name("FILE");
  command->footer(examples(
      "  comet bench --demo\n"
      "  comet bench --model qwen2-moe --scale demo --world local:4 --link paced:auto:0.6\n"
      "  comet bench --experts 8 --topk 2 --hidden 512 --intermediate 1024 --tokens 2048 "
      "--ep 2 --link paced:0.5 --json out.jsonl\n"));
  command->callback(
      [flags, &context] { context.command = [flags] { return run_bench_command(*flags); }; });
}

}  // namespace comet::cli
