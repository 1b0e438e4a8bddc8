// SPDX-License-Identifier: Apache-2.0
#include "cli/tune_cases.hpp"

#include <sstream>

#include "base/check.hpp"
#include "base/int_math.hpp"
#include "cli/flags.hpp"
#include "models/presets.hpp"

namespace comet::cli {
namespace {

constexpr const char* kGridGroup = "Grid";

template <typename T, typename Parse>
std::vector<T> parse_list(const std::string& text, Parse parse) {
  std::vector<T> values;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) values.push_back(parse(part));
  check(!values.empty(), ErrorCode::invalid_argument, "[flags] '{}': values with commas between",
        text);
  return values;
}

std::int64_t parse_grid_count(const std::string& text) {
  std::int64_t value = 0;
  std::istringstream stream(text);
  check(static_cast<bool>(stream >> value) && stream.eof() && value >= 1 && value <= 1 << 24,
        ErrorCode::invalid_argument, "[flags] '{}': a whole number from 1 to {}", text, 1 << 24);
  return value;
}

ParallelDesc parse_grid_split(const std::string& text) {
  const std::size_t cross = text.find('x');
  check(cross != std::string::npos, ErrorCode::invalid_argument,
        "[flags] split '{}': <EP>x<TP>, for example 4x2", text);
  return {.ep = parse_grid_count(text.substr(0, cross)),
          .tp = parse_grid_count(text.substr(cross + 1))};
}

template <typename T>
std::vector<T> or_one(const std::vector<T>& values, const T& otherwise) {
  return values.empty() ? std::vector<T>{otherwise} : values;
}

// Experts that a CPU multiplies in milliseconds, many small or few large.
MoeDesc small_layer(bool has_many, std::int64_t ranks, DType dtype) {
  return {.num_experts = has_many ? 32 : 8,
          .topk = has_many ? 4 : 2,
          .hidden = 512,
          .intermediate = round_up(has_many ? 256 : 704, 8 * ranks),
          .dtype = dtype};
}

}  // namespace

void add_grid_flags(CLI::App& app, TuneGridFlags& flags) {
  const std::string type = "LIST";
  const auto as_is = [](const std::string& text) { return text; };
  add_parsed(
      app, "--models", flags.models,
      [as_is](const std::string& text) { return parse_list<std::string>(text, as_is); }, type,
      "Names with commas between, each tuned with each of the lists below")
      ->group(kGridGroup);
  add_parsed(
      app, "--token-counts", flags.tokens,
      [](const std::string& text) { return parse_list<std::int64_t>(text, parse_grid_count); },
      type, "Tokens of all ranks together")
      ->group(kGridGroup);
  add_parsed(
      app, "--splits", flags.splits,
      [](const std::string& text) { return parse_list<ParallelDesc>(text, parse_grid_split); },
      type, "EP x TP, for example 8x1,4x2")
      ->group(kGridGroup);
  add_parsed(
      app, "--links", flags.links,
      [](const std::string& text) {
        return parse_list<LinkSpec>(text, [](const std::string& link) { return parse_link(link); });
      },
      type, "For example native,paced:20")
      ->group(kGridGroup);
}

std::vector<BenchCase> grid_cases(const BenchFlags& base, const TuneGridFlags& grid,
                                  const Ranks& ranks) {
  const ParallelDesc own_split{.ep = base.world.ep, .tp = base.world.tp};
  std::vector<BenchCase> cases;
  for (const std::string& model : or_one(grid.models, base.shape.model)) {
    for (const std::int64_t tokens : or_one(grid.tokens, base.tokens)) {
      for (const ParallelDesc& split : or_one(grid.splits, own_split)) {
        for (const LinkSpec& link : or_one(grid.links, base.link)) {
          BenchFlags flags = base;
          flags.shape.model = model;
          flags.tokens = tokens;
          flags.world.ep = split.ep;
          flags.world.tp = split.tp;
          flags.link = link;
          cases.push_back(plan_bench(flags, ranks).bench);
        }
      }
    }
  }
  return cases;
}

std::vector<BenchCase> calibration_cases(const BenchFlags& base, const Ranks& all_ranks) {
  const bool on_gpus = base.backend == Backend::cuda;
  std::int64_t ranks = resolve_world(base.world, all_ranks).world_size();
  if (ranks == 1) ranks = on_gpus ? 8 : 2;
  const DType dtype = on_gpus && !base.is_dtype_given ? DType::bf16 : base.shape.dtype;
  std::vector<BenchCase> cases;
  for (const bool has_many : {false, true}) {
    for (const ParallelDesc parallel : {ParallelDesc{ranks, 1}, ParallelDesc{1, ranks}}) {
      for (const bool is_linked : {false, true}) {
        BenchCase bench;
        bench.model = "calibration";
        bench.desc = small_layer(has_many, ranks, dtype);
        bench.tokens = 512;
        if (on_gpus) {
          const char* const model = has_many ? "qwen2-moe-2.7b" : "mixtral-8x7b";
          bench.desc = make_desc(find_preset(model), 0, dtype);
          bench.tokens = 8192;
        }
        bench.parallel = parallel;
        bench.backend = base.backend;
        bench.workers = static_cast<int>(base.workers);
        bench.seed = base.seed;
        if (is_linked) bench.link = parse_link("paced:auto:0.6");
        cases.push_back(bench);
      }
    }
  }
  return cases;
}

}  // namespace comet::cli
