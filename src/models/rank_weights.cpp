// SPDX-License-Identifier: Apache-2.0
// Views of one rank's slice of a block's experts.
#include "base/check.hpp"
#include "models/hf_block.hpp"

namespace comet {

RankWeights rank_weights(const MoeBlock& block, const ParallelDesc& parallel, std::int64_t ep_rank,
                         std::int64_t tp_rank) {
  const MoeDesc& desc = block.desc;
  validate(desc, parallel);
  check(ep_rank >= 0 && ep_rank < parallel.ep && tp_rank >= 0 && tp_rank < parallel.tp,
        ErrorCode::out_of_range, "[model] rank (ep {}, tp {}), allowed 0 to {} and 0 to {}",
        ep_rank, tp_rank, parallel.ep - 1, parallel.tp - 1);
  const std::int64_t matrix = desc.intermediate * desc.hidden;
  const std::int64_t first_inter = tp_rank * (desc.intermediate / parallel.tp);
  const auto element = static_cast<std::int64_t>(size_of(desc.dtype));
  const auto gate_up_of = [&](std::int64_t expert) {
    return block.gate_up.data() + expert * 2 * matrix * element;
  };
  const auto down_of = [&](std::int64_t expert) {
    return block.down.data() + expert * matrix * element;
  };

  const std::vector<std::int32_t> experts = local_experts(desc, parallel, ep_rank);
  const std::int64_t first = experts.empty() ? 0 : experts.front();
  const bool neighbours =
      experts.empty() || experts.back() - first + 1 == static_cast<std::int64_t>(experts.size());

  RankWeights result;
  MoeWeights& weights = result.weights;
  weights.gate.row_stride = weights.up.row_stride = desc.hidden;
  weights.down.row_stride = desc.intermediate;
  if (neighbours) {
    weights.gate.base = weights.up.base = gate_up_of(first);
    weights.gate.expert_stride = weights.up.expert_stride = 2 * matrix;
    weights.down.base = down_of(first);
    weights.down.expert_stride = matrix;
  } else {
    for (const std::int32_t expert : experts) {
      result.gate_up_list.push_back(gate_up_of(expert));
      result.down_list.push_back(down_of(expert));
    }
    weights.gate.list = weights.up.list = result.gate_up_list.data();
    weights.down.list = result.down_list.data();
  }
  weights.gate.offset = first_inter * desc.hidden;
  weights.up.offset = matrix + first_inter * desc.hidden;
  weights.down.offset = first_inter;
  return result;
}

}  // namespace comet
