// SPDX-License-Identifier: Apache-2.0
// A block worked out in double from the views of every rank, for comparison with what is known.
#pragma once

#include <cmath>
#include <vector>

#include "models/hf_block.hpp"

namespace comet {

inline double element_at(const void* data, std::int64_t index, DType dtype) {
  return dtype == DType::f32 ? static_cast<double>(static_cast<const float*>(data)[index])
                             : static_cast<double>(to_float(static_cast<const bf16*>(data)[index]));
}

/// Adds to y [T, H] what one rank's experts give for x [T, H], f = silu.
inline void add_rank(const MoeBlock& block, const ParallelDesc& parallel, std::int64_t ep_rank,
                     std::int64_t tp_rank, const std::vector<float>& x, const Routing& routing,
                     std::vector<double>& y) {
  const std::int64_t hidden = block.desc.hidden;
  const std::int64_t inter = block.desc.intermediate / parallel.tp;
  const DType dtype = block.desc.dtype;
  const RankWeights slice = rank_weights(block, parallel, ep_rank, tp_rank);
  const std::vector<std::int32_t> experts = local_experts(block.desc, parallel, ep_rank);
  for (std::int64_t t = 0; t < routing.tokens; ++t) {
    for (std::int64_t k = 0; k < routing.topk; ++k) {
      for (std::size_t local = 0; local < experts.size(); ++local) {
        if (experts[local] != routing.ids[t * routing.topk + k]) continue;
        const auto& [gate, up, down] = slice.weights;
        const auto e = static_cast<std::int64_t>(local);
        for (std::int64_t i = 0; i < inter; ++i) {
          double gate_sum = 0;
          double up_sum = 0;
          for (std::int64_t h = 0; h < hidden; ++h) {
            const double value = x[t * hidden + h];
            gate_sum += value * element_at(gate.expert(e, dtype), i * gate.row_stride + h, dtype);
            up_sum += value * element_at(up.expert(e, dtype), i * up.row_stride + h, dtype);
          }
          const double act = gate_sum / (1 + std::exp(-gate_sum)) * up_sum;
          const double weighted = act * static_cast<double>(routing.weights[t * routing.topk + k]);
          for (std::int64_t h = 0; h < hidden; ++h) {
            y[t * hidden + h] +=
                weighted * element_at(down.expert(e, dtype), h * down.row_stride + i, dtype);
          }
        }
      }
    }
  }
}

/// The routed part of a block, summed over all ranks of `parallel`: [T, H].
inline std::vector<double> naive_block(const MoeBlock& block, const ParallelDesc& parallel,
                                       const std::vector<float>& x, const Routing& routing) {
  std::vector<double> y(x.size(), 0.0);
  for (std::int64_t ep_rank = 0; ep_rank < parallel.ep; ++ep_rank) {
    for (std::int64_t tp_rank = 0; tp_rank < parallel.tp; ++tp_rank) {
      add_rank(block, parallel, ep_rank, tp_rank, x, routing, y);
    }
  }
  return y;
}

}  // namespace comet
