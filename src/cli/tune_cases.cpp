// SPDX-License-Identifier: Apache-2.0
#include "cli/tune_cases.hpp"

#include <algorithm>
#include <optional>
#include <sstream>
#include <string_view>
#include <utility>

#include "base/check.hpp"
#include "base/int_math.hpp"
#include "base/read_number.hpp"
#include "cli/flags.hpp"
#include "models/presets.hpp"

namespace comet::cli {
namespace {

constexpr const char* kGridGroup = "Grid";

// A whole number of `text` from 1 to `high`; nothing if it is none.
std::optional<std::int64_t> grid_count(std::string_view text, std::int64_t high) {
  const auto value = read_number<std::int64_t>(text);
  return value && *value >= 1 && *value <= high ? value : std::nullopt;
}

std::int64_t parse_tokens(const std::string& text) {
  constexpr std::int64_t kMost = 1 << 24;
  const auto tokens = grid_count(text, kMost);
  check(tokens.has_value(), ErrorCode::invalid_argument,
        "[flags] --token-counts: '{}', a whole number from 1 to {}", text, kMost);
  return *tokens;
}

ParallelDesc parse_split(const std::string& text) {
  const std::size_t cross = std::min(text.find('x'), text.size());
  const auto ep = grid_count(std::string_view(text).substr(0, cross), kMaxRanks);
  const auto tp =
      grid_count(std::string_view(text).substr(std::min(cross + 1, text.size())), kMaxRanks);
  check(ep && tp, ErrorCode::invalid_argument, "[flags] --splits: '{}', <EP>x<TP>, for example 4x2",
        text);
  return {.ep = *ep, .tp = *tp};
}

// Parts of a list, each made a value by `parse`, which throws Error if it is none.
template <typename T, typename Parse>
void add_list(CLI::App& app, const std::string& name, std::vector<T>& values, Parse parse,
              const std::string& help) {
  add_parsed(
      app, name, values,
      [name, parse](const std::string& text) {
        std::vector<T> parsed;
        std::istringstream stream(text);
        for (std::string part; std::getline(stream, part, ',');) parsed.push_back(parse(part));
        check(!parsed.empty(), ErrorCode::invalid_argument,
              "[flags] {}: '', values with commas between", name);
        return parsed;
      },
      "LIST", help)
      ->group(kGridGroup);
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
  add_list(
      app, "--models", flags.models, [](const std::string& text) { return text; },
      "Names with commas between, each tuned with each of the lists below");
  add_list(app, "--token-counts", flags.tokens, parse_tokens, "Tokens of all ranks together");
  add_list(app, "--splits", flags.splits, parse_split, "EP x TP, for example 8x1,4x2");
  add_list(
      app, "--links", flags.links, [](const std::string& text) { return parse_link(text); },
      "For example native,paced:20");
  // A list stands in the place of these.
  for (const auto& [list, single] : {std::pair{"--models", "--model"},
                                     {"--token-counts", "--tokens"},
                                     {"--splits", "--ep"},
                                     {"--splits", "--tp"},
                                     {"--links", "--link"}}) {
    app.get_option(list)->excludes(app.get_option(single));
  }
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
