// SPDX-License-Identifier: Apache-2.0
#include "layout/call_fault.hpp"

#include <fmt/core.h>

namespace comet {

std::string input_fault_sentence(const LayerDims& dims, std::int32_t rank,
                                 const InputFaultDetail& detail) {
  switch (detail.kind) {
    case InputFaultKind::too_many_tokens:
      return fmt::format("[publish] rank {} has {} tokens, max_tokens is {}", rank, detail.a,
                         dims.max_tokens);
    case InputFaultKind::bad_id:
      return fmt::format("[publish] rank {}: topk_ids[{}, {}] = {}, allowed -1 to {}", rank,
                         detail.a / dims.topk, detail.a % dims.topk, detail.b,
                         dims.num_experts - 1);
    case InputFaultKind::overlap:
      return fmt::format(
          "[publish] rank {}: a call began while another on the same workspace was running; order "
          "them on their streams",
          rank);
    case InputFaultKind::none:
      break;
  }
  // The rank had a sentence of its own, which died with it.
  return fmt::format(
      "[publish] rank {} has refused the call and ended before it could be asked why", rank);
}

}  // namespace comet
