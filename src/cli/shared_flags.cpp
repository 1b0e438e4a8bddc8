// SPDX-License-Identifier: Apache-2.0
#include "cli/shared_flags.hpp"

#include <fmt/format.h>

#include "base/check.hpp"
#include "cli/flags.hpp"
#include "models/presets.hpp"

namespace comet::cli {
namespace {

constexpr std::int64_t kMaxSize = std::int64_t{1} << 40;

std::string preset_names() {
  std::string names;
  for (const ModelPreset& preset : model_presets()) {
    if (!names.empty()) names += ", ";
    names += preset.name;
  }
  return names;
}

void replace_if_given(std::int64_t& value, std::int64_t given) {
  if (given > 0) value = given;
}

}  // namespace

void add_shape(CLI::App& app, ShapeFlags& flags) {
  const std::string group = kShapeGroup;
  app.add_option("--model", flags.model, "Take the shape of a model: " + preset_names())
      ->type_name("NAME")
      ->group(group);
  const auto add = [&](const char* name, const char* help, std::int64_t high, std::int64_t& value) {
    add_integer(app, {name, help, 1, high}, value, false)->group(group);
  };
  add("--experts", "Experts E; this and the next three replace the model's", 65534, flags.experts);
  add("--topk", "Experts per token K", 32, flags.topk);
  add("--hidden", "Token length H, a multiple of 8", kMaxSize, flags.hidden);
  add("--intermediate", "Inner size I of an expert, a multiple of 8 * TP", kMaxSize,
      flags.intermediate);
  add_dtype(app, flags.dtype);
}

MoeDesc resolve_shape(const ShapeFlags& flags) {
  MoeDesc desc;
  if (!flags.model.empty()) {
    desc = make_desc(find_preset(flags.model), 0, flags.dtype);
  } else {
    check(flags.experts > 0 && flags.topk > 0 && flags.hidden > 0 && flags.intermediate > 0,
          ErrorCode::invalid_argument,
          "[shape] no layer given: --model, or all of --experts, --topk, --hidden, --intermediate");
  }
  replace_if_given(desc.num_experts, flags.experts);
  replace_if_given(desc.topk, flags.topk);
  replace_if_given(desc.hidden, flags.hidden);
  replace_if_given(desc.intermediate, flags.intermediate);
  desc.dtype = flags.dtype;
  return desc;
}

void add_ungated(CLI::App& app, bool& is_ungated) {
  app.add_flag("--ungated", is_ungated, "Experts of two matrices, f(up) in place of f(gate) * up")
      ->group(kShapeGroup);
}

void add_dtype(CLI::App& app, DType& dtype) {
  add_parsed(app, "--dtype", dtype, parse_dtype, "f32|bf16|f16",
             "Element type of tokens and weights")
      ->default_str(std::string(to_string(dtype)));
}

CLI::Option* add_world_choice(CLI::App& app, WorldChoice& choice, const std::string& w_help) {
  return add_parsed(app, "--world", choice, parse_world, "WORLD",
                    "Where ranks live: local[:W], threads of this process (" + w_help +
                        "); mpi, the processes that mpirun has started; process, those of comet "
                        "launch; nvshmem, either, on GPUs. By default the processes, if there are "
                        "several, else local");
}

void add_world(CLI::App& app, WorldFlags& flags) {
  const std::string group = "World";
  add_world_choice(app, flags.world, "W defaults to EP * TP")->group(group);
  add_integer(app, {"--ep", "Expert parallelism: parts of the list of experts", 1, kMaxRanks},
              flags.ep, false)
      ->group(group);
  add_integer(app, {"--tp", "Tensor parallelism: slices of each expert", 1, kMaxRanks}, flags.tp,
              false)
      ->group(group);
}

ParallelDesc resolve_world(const WorldFlags& flags, const Ranks& ranks) {
  const std::int64_t fixed = ranks.fixed();
  ParallelDesc parallel{.ep = flags.ep, .tp = flags.tp};
  if (parallel.ep == 0 && parallel.tp > 0) {
    parallel.ep = fixed > 0 ? fixed / parallel.tp : 1;
  } else if (parallel.ep == 0) {
    parallel.ep = fixed > 0 ? fixed : 1;
  }
  if (parallel.tp == 0) parallel.tp = fixed > 0 ? fixed / parallel.ep : 1;
  check(fixed == 0 || parallel.world_size() == fixed, ErrorCode::invalid_argument,
        "[world] {} ranks do not fit --ep {} --tp {}: ep * tp must be the number of ranks", fixed,
        flags.ep > 0 ? fmt::to_string(flags.ep) : "(any)",
        flags.tp > 0 ? fmt::to_string(flags.tp) : "(any)");
  check(parallel.world_size() <= kMaxRanks, ErrorCode::invalid_argument,
        "[world] ep * tp: {} * {} = {} ranks, from 1 to {}", parallel.ep, parallel.tp,
        parallel.world_size(), kMaxRanks);
  return parallel;
}

void add_backend(CLI::App& app, Backend& backend) {
  add_parsed(app, "--backend", backend, parse_backend, "cpu|cuda",
             "What computes: threads, or Hopper GPUs, which ranks may share")
      ->default_str(std::string(to_string(backend)))
      ->group("World");
}

void add_link(CLI::App& app, LinkSpec& link) {
  add_parsed(app, "--link", link, parse_link, "LINK",
             "What joins ranks: native, paced:<GB/s> to emulate a slower link, or host (cuda: "
             "through pinned host memory, over PCIe)")
      ->default_str(to_string(link))
      ->group("World");
}

void describe_auto_link(CLI::App& app) {
  CLI::Option* const link = app.get_option("--link");
  link->description(link->get_description() +
                    "; paced:auto[:<ratio>] emulates one on which communication alone takes "
                    "<ratio> (0.6) times as long as computation alone");
}

}  // namespace comet::cli
