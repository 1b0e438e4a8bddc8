// SPDX-License-Identifier: Apache-2.0
#include "cli/run_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "cli/split.hpp"

namespace comet::cli {
namespace {

// A wrong row, weight or partial sum changes elements by about their own size. Rounding is far
// below: partial sums and activations are rounded to the dtype a few times on either side.
double allowed_error(DType dtype) { return dtype == DType::f32 ? 1e-4 : 8 * epsilon_of(dtype); }

// All values while they fit a line, else their range.
std::string per_rank(const std::vector<std::int64_t>& values) {
  constexpr std::size_t kMaxShown = 16;
  if (values.size() <= kMaxShown) return fmt::format("{}", fmt::join(values, " "));
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  return fmt::format("{} to {}", *least, *most);
}

std::string check_line(const LayerResult& result) {
  return fmt::format("check     max relative error {:.3g} against reference, allowed {:.3g}: {}\n",
                     max_relative_error(result.y, *result.reference), allowed_error(result.y.dtype),
                     is_run_good(result) ? "passed" : "FAILED");
}

}  // namespace

bool is_run_good(const LayerResult& result) {
  return !result.reference ||
         max_relative_error(result.y, *result.reference) <= allowed_error(result.y.dtype);
}

std::string run_text(const RunSummary& summary) {
  const MoeDesc& desc = summary.block.desc;
  const LayerResult& result = summary.result;
  const std::int64_t ranks = summary.parallel.world_size();
  std::vector<std::int64_t> tokens;
  std::vector<std::int64_t> rows;
  double slowest_us = 0;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    tokens.push_back(token_share(result.y.rows, ranks, rank).count);
    rows.push_back(result.stats[rank].rows);
    slowest_us = std::max(slowest_us, result.stats[rank].t_layer_us);
  }
  std::string text =
      fmt::format("model     {}, layer {}: {} experts, top {}, hidden {}, intermediate {}, {}{}\n",
                  to_string(summary.block.model_type), summary.block.layer, desc.num_experts,
                  desc.topk, desc.hidden, desc.intermediate, to_string(desc.dtype),
                  summary.block.shared ? ", and a shared expert" : "");
  const bool on_gpus = summary.backend == Backend::cuda;
  text += fmt::format("world     {}:{}{}{}, ep {} x tp {}, link {}\n", summary.world, ranks,
                      on_gpus ? " on " : "", result.device.name, summary.parallel.ep,
                      summary.parallel.tp, to_string(summary.link));
  text += fmt::format("schedule  {}, groups {}, {} per rank {}\n", to_string(summary.schedule),
                      summary.groups, on_gpus ? "multiprocessors" : "workers",
                      on_gpus ? result.device.multiprocessors : summary.workers);
  text += fmt::format("tokens    {}; per rank {}\n", result.y.rows, per_rank(tokens));
  if (summary.schedule != Schedule::reference) {  // which makes no rows
    text += fmt::format("rows      per rank {}\n", per_rank(rows));
  }
  text +=
      fmt::format("time      {:.3f} ms, one cold call of the slowest rank\n", slowest_us / 1000);
  if (result.reference) text += check_line(result);
  if (!summary.out.empty()) {
    text += fmt::format("output    {}: y [{}, {}] {}\n", summary.out, result.y.rows,
                        result.y.hidden, to_string(result.y.dtype));
  }
  return text;
}

}  // namespace comet::cli
