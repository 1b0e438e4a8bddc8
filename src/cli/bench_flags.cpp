// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_flags.hpp"

#include <sstream>

#include "base/check.hpp"
#include "base/read_number.hpp"
#include "cli/flags.hpp"
#include "cli/memory_check.hpp"
#include "layer/backends.hpp"
#include "layer/call_options.hpp"

namespace comet::cli {
namespace {

constexpr std::int64_t kDefaultTokens = 16384;  // of a whole model, before scaling
constexpr std::int64_t kAuto = BenchFlags::kAuto;

// A number that may be left to be chosen.
struct AutoNumber {
  std::string flag;
  std::int64_t low;
  std::int64_t high;

  // The number, or -1 for "auto".
  std::int64_t operator()(const std::string& text) const {
    if (text == "auto") return kAuto;
    const auto value = read_number<std::int64_t>(text);
    check(value && *value >= low && *value <= high, ErrorCode::invalid_argument,
          "[flags] {}: '{}', auto or a whole number from {} to {}", flag, text, low, high);
    return *value;
  }
};

std::vector<Schedule> bench_schedules(const std::string& text) {
  std::vector<Schedule> schedules;
  std::istringstream stream(text);
  for (std::string name; std::getline(stream, name, ',');) {
    schedules.push_back(parse_schedule(name));
  }
  check(!schedules.empty(), ErrorCode::invalid_argument,
        "[flags] --schedules: '{}', names of schedules with commas between", text);
  return schedules;
}

// What cpu would ignore, while the command of a row would say that its calls were made so.
void check_backend_has(const BenchFlags& flags) {
  if (flags.backend == Backend::cuda) return;
  check(!flags.no_graphs, ErrorCode::invalid_argument,
        "[flags] --no-graphs: calls on {} are never replayed; for --backend cuda",
        to_string(flags.backend));
  check(!flags.placement, ErrorCode::invalid_argument,
        "[flags] --placement: workers on {} are threads, of no warps or blocks; for --backend cuda",
        to_string(flags.backend));
  check(flags.waves == kAuto, ErrorCode::invalid_argument,
        "[flags] --waves: {} cuts no tiles into waves; for --backend cuda",
        to_string(flags.backend));
}

// Weights alone first, which fewer tokens do not make smaller.
void check_case_fits(const BenchCase& bench) {
  const double weights = bytes_of_experts(bench.desc);
  check_fits_memory("the experts' weights", weights, "--scale makes the layer smaller");
  const WorkspaceQuery query{.desc = bench.desc,
                             .parallel = bench.parallel,
                             .tokens = bench.tokens,
                             .backend = bench.backend};
  constexpr int kMatrices = 2;  // tokens and results
  check_fits_memory("weights, tokens, results and workspaces",
                    weights + call_bytes(query, kMatrices),
                    "fewer --tokens take less, and --scale makes the layer smaller");
}

}  // namespace

void add_case_flags(CLI::App& app, BenchFlags& flags) {
  add_shape(app, flags.shape);
  add_ungated(app, flags.is_ungated);
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
  add_unsigned(app, "--seed", flags.seed, "Of weights, tokens and routing");
}

void add_schedule_flags(CLI::App& app, BenchFlags& flags) {
  const std::string group = kSchedulesGroup;
  const auto add_auto = [&](const AutoNumber& number, std::int64_t& value,
                            const std::string& help) {
    add_parsed(app, number.flag, value, number, "N|auto", help)->default_str("auto")->group(group);
  };
  add_parsed(app, "--schedules", flags.schedules, bench_schedules, "NAMES",
             "Names with commas between: sequential, pipelined, comet, reference")
      ->default_str("all but reference")
      ->group(group);
  add_auto({"--groups", 1, kMaxGroups}, flags.groups, "Groups of tokens of comet");
  add_auto({"--n-c-dispatch", 0, kMaxWorkers}, flags.n_c_dispatch,
           "Communication workers while tokens are pulled");
  add_auto({"--n-c-combine", 0, kMaxWorkers}, flags.n_c_combine,
           "Communication workers after that");
  add_parsed(
      app, "--placement", flags.placement,
      [](const std::string& text) {
        return text == "auto" ? std::optional<Placement>() : parse_placement(text);
      },
      "warps|blocks|auto",
      "cuda: whether comet communicates on extra warps or on blocks of its own")
      ->default_str("auto")
      ->group(group);
  add_auto({"--waves", 1, kMaxWaves}, flags.waves,
           "cuda: waves of comet that each expert's tiles are cut into");
  app.add_flag("--no-graphs", flags.no_graphs,
               "cuda: launch every call anew in place of replaying it from a CUDA graph")
      ->group(group);
  const auto add = [&](const char* name, const char* help, std::int64_t low, std::int64_t high,
                       std::int64_t& value) {
    add_integer(app, {name, help, low, high}, value)->group(group);
  };
  add("--workers", "Threads of each rank on cpu; 0: cores / ranks, at least 1", 0, kMaxWorkers,
      flags.workers);
  add("--panel", "Columns of a panel; 0 chooses", 0, 1 << 20, flags.panel);
  add("--block-m", "Rows of a tile; 0 chooses", 0, 1024, flags.block_m);
  add("--block-n", "Columns of a tile; 0 chooses", 0, 65536, flags.block_n);
}

PlannedBench plan_bench(const BenchFlags& flags, const Ranks& ranks) {
  ranks.check_fits(flags.backend, flags.link);
  check_backend_has(flags);
  PlannedBench planned;
  BenchCase& bench = planned.bench;
  bench.model = flags.shape.model.empty() ? "custom" : flags.shape.model;
  bench.desc = resolve_shape(flags.shape);
  if (flags.is_ungated) bench.desc.gated = false;
  bench.backend = flags.backend;
  if (bench.backend == Backend::cuda && !flags.is_dtype_given) bench.desc.dtype = DType::bf16;
  bench.parallel = resolve_world(flags.world, ranks);
  bench.tokens = flags.tokens > 0 ? flags.tokens : kDefaultTokens;
  planned.divisors = scale_for(flags.scale, bench.desc, bench.tokens);
  if (flags.tokens > 0) planned.divisors.tokens = 1;  // what is asked for is what is run
  apply(planned.divisors, bench.parallel.tp, bench.desc, bench.tokens);
  // Of ranks that are processes each host holds a part.
  if (bench.backend == Backend::cpu && ranks.kind() == "local") check_case_fits(bench);
  bench.routing = parse_synthetic_routing(flags.routing);
  bench.routing_text = flags.routing;
  bench.link = flags.link;
  const auto tiled = tiled_schedules(bench.backend);
  bench.schedules = flags.schedules;
  if (bench.schedules.empty()) bench.schedules.assign(tiled.begin(), tiled.end());
  bench.groups = flags.groups == kAuto ? 0 : flags.groups;
  bench.n_c_dispatch = static_cast<int>(flags.n_c_dispatch);
  bench.n_c_combine = static_cast<int>(flags.n_c_combine);
  bench.placement = flags.placement;
  bench.waves = flags.waves == kAuto ? 0 : flags.waves;
  bench.graphs = !flags.no_graphs;
  bench.workers = static_cast<int>(flags.workers);
  bench.panel = flags.panel;
  bench.block_m = flags.block_m;
  bench.block_n = flags.block_n;
  bench.seed = flags.seed;
  planned.is_drawn = true;
  return planned;
}

}  // namespace comet::cli
