// SPDX-License-Identifier: Apache-2.0
#include "comet/weights.hpp"

namespace comet {
namespace {

// Points gate and up into fused first weights whose `fused` part has base or list set.
MoeWeights split_gate(const ExpertMatrices& fused, const ExpertMatrices& down, GateLayout layout,
                      std::int64_t inter_local, std::int64_t hidden) noexcept {
  MoeWeights weights{.gate = fused, .up = fused, .down = down};
  const std::int64_t half = inter_local * hidden;
  switch (layout) {
    case GateLayout::gate_up:
      weights.up.offset = half;
      break;
    case GateLayout::up_gate:
      weights.gate.offset = half;
      break;
    case GateLayout::interleaved:
      weights.up.offset = hidden;
      weights.gate.row_stride = weights.up.row_stride = 2 * hidden;
      break;
    case GateLayout::none:
      weights.gate = {};
      break;
  }
  return weights;
}

}  // namespace

MoeWeights fused_weights(const void* w13, const void* w2, GateLayout layout,
                         std::int64_t inter_local, std::int64_t hidden) noexcept {
  const std::int64_t matrices = layout == GateLayout::none ? 1 : 2;
  const ExpertMatrices fused{
      .base = w13, .expert_stride = matrices * inter_local * hidden, .row_stride = hidden};
  const ExpertMatrices down{
      .base = w2, .expert_stride = hidden * inter_local, .row_stride = inter_local};
  return split_gate(fused, down, layout, inter_local, hidden);
}

MoeWeights listed_weights(const void* const* w13, const void* const* w2, GateLayout layout,
                          std::int64_t inter_local, std::int64_t hidden) noexcept {
  return split_gate({.row_stride = hidden, .list = w13}, {.row_stride = inter_local, .list = w2},
                    layout, inter_local, hidden);
}

}  // namespace comet
