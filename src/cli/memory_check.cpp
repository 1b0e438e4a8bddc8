// SPDX-License-Identifier: Apache-2.0
#include "cli/memory_check.hpp"

#include <algorithm>

#include "base/check.hpp"
#include "cli/machine.hpp"

namespace comet::cli {

double bytes_of_experts(const MoeDesc& desc) {
  return static_cast<double>(desc.num_experts) * (desc.gated ? 3.0 : 2.0) *
         static_cast<double>(desc.hidden) * static_cast<double>(desc.intermediate) *
         static_cast<double>(size_of(desc.dtype));
}

double call_bytes(const WorkspaceQuery& query, int matrices) {
  const MoeDesc& desc = query.desc;
  const auto tokens = static_cast<double>(query.tokens);
  const double matrix =
      tokens * static_cast<double>(desc.hidden) * static_cast<double>(size_of(desc.dtype));
  const double logits = tokens * static_cast<double>(desc.num_experts) * sizeof(float);
  const double choices =
      tokens * static_cast<double>(desc.topk) * (sizeof(std::int32_t) + sizeof(float));
  double bytes = matrices * matrix + logits + choices;
  if (query.backend == Backend::cpu) {
    const WorkspaceReport workspace = describe_workspace(query);
    const auto ranks = static_cast<double>(query.parallel.world_size());
    const auto sources = static_cast<double>(std::min(desc.topk, query.parallel.ep));
    bytes += ranks * static_cast<double>(workspace.bytes - workspace.partial_bytes) +
             sources * static_cast<double>(query.parallel.tp) * matrix;
  }
  return bytes;
}

void check_fits_memory(const std::string& what, double bytes, const std::string& advice) {
  constexpr double kGibibyte = 1 << 30;
  const auto available = static_cast<double>(describe_machine().available_bytes);
  check(available == 0 || bytes <= available, ErrorCode::capacity,
        "[memory] {} take {:.1f} GiB, and {:.1f} GiB are available: {}", what, bytes / kGibibyte,
        available / kGibibyte, advice);
}

}  // namespace comet::cli
