// SPDX-License-Identifier: Apache-2.0
#include "tune/tune_case.hpp"

#include <fmt/core.h>

#include <tuple>

#include "base/count_text.hpp"
#include "base/int_math.hpp"

namespace comet {

bool is_same_but_tokens(const TuneCase& a, const TuneCase& b) {
  const auto key = [](const TuneCase& of) {
    return std::tuple(of.desc.hidden, of.desc.intermediate, of.desc.num_experts, of.desc.topk,
                      of.desc.dtype, of.desc.gated, of.parallel.ep, of.parallel.tp, of.backend,
                      to_string(of.link), of.workers, of.ranks_per_device);
  };
  return key(a) == key(b);
}

std::int64_t widest_panel(const MoeDesc& desc) {
  constexpr std::int64_t kMostColumns = 256;  // of a tile
  return round_up(desc.hidden, kMostColumns);
}

std::string to_string(const TuneConfig& config, Backend backend) {
  std::string text = fmt::format("groups {}, panel {}", config.groups, config.panel);
  if (config.chunk > 0) text += fmt::format(", chunk {}", config.chunk);
  text += fmt::format(", n_c {}/{}", config.n_c_dispatch, config.n_c_combine);
  if (backend == Backend::cuda) text += fmt::format(" {}", to_string(config.placement));
  if (config.waves > 0) text += ", " + count_text(config.waves, "wave");
  return text;
}

ForwardOptions to_options(const TuneConfig& config, Schedule schedule) {
  return {.schedule = schedule,
          .groups = config.groups,
          .panel = config.panel,
          .chunk = config.chunk,
          .n_c_dispatch = config.n_c_dispatch,
          .n_c_combine = config.n_c_combine,
          .placement = config.placement,
          .waves = config.waves};
}

TuneConfig to_config(const ForwardOptions& options, std::int64_t block_m, std::int64_t block_n) {
  return {.block_m = block_m,
          .block_n = block_n,
          .groups = options.groups,
          .panel = options.panel,
          .chunk = options.chunk,
          .n_c_dispatch = options.n_c_dispatch,
          .n_c_combine = options.n_c_combine,
          .placement = options.placement,
          .waves = options.waves};
}

}  // namespace comet
