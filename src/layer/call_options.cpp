// SPDX-License-Identifier: Apache-2.0
#include "layer/call_options.hpp"

#include <cstdint>

#include "base/check.hpp"
#include "layout/token_blocks.hpp"

namespace comet {

RunConfig make_run_config(const LayerDims& dims, const ForwardOptions& options) {
  RunConfig config;
  config.schedule = static_cast<std::int32_t>(options.schedule);
  const bool grouped =
      options.schedule == Schedule::comet || options.schedule == Schedule::pipelined;
  config.groups = grouped ? static_cast<std::int32_t>(max_of(1, options.groups)) : 1;
  // About eight panels, as the paper's code: the first push starts after an eighth of the GEMM.
  const std::int64_t wished = options.panel > 0 ? options.panel : ceil_div(dims.hidden, 8);
  config.panel = round_up(min_of(wished, dims.hidden), dims.panel_n);
  config.chunk = options.chunk > 0 ? min_of(options.chunk, kTokenBlock) : kTokenBlock / 2;
  return config;
}

std::optional<InputFault> find_option_fault(const LayerDims& dims, const ForwardOptions& options) {
  const auto fault = [&](const char* name, std::int64_t value, std::int64_t least,
                         std::int64_t most) -> std::optional<InputFault> {
    if (value >= least && value <= most) return std::nullopt;
    return InputFault{ErrorCode::invalid_argument,
                      fmt::format("[forward] rank {}: {} is {}, allowed {} to {}", dims.rank, name,
                                  value, least, most)};
  };
  if (auto f = fault("groups", options.groups, 0, kMaxGroups)) return f;
  if (auto f = fault("panel", options.panel, 0, INT32_MAX)) return f;
  if (auto f = fault("chunk", options.chunk, 0, INT32_MAX)) return f;
  if (auto f = fault("waves", options.waves, 0, kMaxWaves)) return f;
  if (auto f = fault("n_c_dispatch", options.n_c_dispatch, -1, kMaxWorkers)) return f;
  return fault("n_c_combine", options.n_c_combine, -1, kMaxWorkers);
}

}  // namespace comet
