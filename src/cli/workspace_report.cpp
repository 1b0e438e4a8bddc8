// SPDX-License-Identifier: Apache-2.0
#include "cli/workspace_report.hpp"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "base/int_math.hpp"
#include "layer/backends.hpp"
#include "layout/layer_dims.hpp"

namespace comet::cli {
namespace {

std::string line(const char* what, std::int64_t bytes, const std::string& detail) {
  constexpr double kMebibyte = 1 << 20;
  return fmt::format("  {:<10} {:>10.2f} MiB  {}\n", what, static_cast<double>(bytes) / kMebibyte,
                     detail);
}

}  // namespace

WorkspaceReport describe_workspace(const WorkspaceQuery& query) {
  WorkspaceReport report{.query = query};
  MoeDesc desc = query.desc;
  desc.max_tokens = ceil_div(query.tokens, query.parallel.world_size());
  validate(desc, query.parallel);
  LayerDims dims = make_layer_dims(desc, query.parallel, 0);
  choose_layer_tile(query.backend, dims);
  const WorkspaceSizes sizes = workspace_sizes(dims);
  report.max_tokens = desc.max_tokens;
  report.token_bytes = sizes.x_bytes;
  report.partial_bytes = sizes.combine_bytes;
  // Ids of 16 bits and float32 weights, both twice: a call's and the next one's.
  report.routing_bytes = 2 * sizes.ids * (2 + 4);
  report.signal_bytes = 4 * (sizes.slots + sizes.world * (1 + sizes.blocks));
  report.bytes = make_workspace_layout(sizes).bytes;
  return report;
}

std::string workspace_text(const WorkspaceReport& report) {
  const auto ranks = report.query.parallel.world_size();
  std::string text = "\nworkspace of a rank, one for all layers up to this size\n";
  text += line("tokens", report.token_bytes,
               fmt::format("up to {} of {} elements, {}", report.max_tokens,
                           report.query.desc.hidden, to_string(report.query.desc.dtype)));
  text += line("partials", report.partial_bytes,
               fmt::format("a sum per token from each of {} ranks", ranks));
  text += line("routing", report.routing_bytes, "ids and weights of two calls");
  text += line("signals", report.signal_bytes, "words by which ranks tell what has arrived");
  text += line("in all", report.bytes,
               fmt::format("on {}, {} x {} ranks (EP x TP)", to_string(report.query.backend),
                           report.query.parallel.ep, report.query.parallel.tp));
  return text;
}

nlohmann::ordered_json workspace_json(const WorkspaceReport& report) {
  return {{"backend", to_string(report.query.backend)},
          {"ep", report.query.parallel.ep},
          {"tp", report.query.parallel.tp},
          {"dtype", to_string(report.query.desc.dtype)},
          {"hidden", report.query.desc.hidden},
          {"max_tokens", report.max_tokens},
          {"token_bytes", report.token_bytes},
          {"partial_bytes", report.partial_bytes},
          {"routing_bytes", report.routing_bytes},
          {"signal_bytes", report.signal_bytes},
          {"bytes", report.bytes}};
}

}  // namespace comet::cli
