// SPDX-License-Identifier: Apache-2.0
// The reference schedule: serial, unfused, double accumulation, no plan and no tiles. Slow and
// obvious; what the other schedules are held against.
#pragma once

#include <cstddef>
#include <cstdint>

#include "comet/desc.hpp"
#include "comet/tensor_view.hpp"
#include "comet/weights.hpp"
#include "comm/world_view.hpp"
#include "layout/layer_dims.hpp"
#include "layout/workspace_layout.hpp"

namespace comet {

/// One call on one rank, after all ranks have published. Borrowed.
struct ReferenceCall {
  const MoeDesc* desc = nullptr;
  LayerDims dims = {};
  MoeWeights weights = {};
  const std::int32_t* ep_rank_of = nullptr;  ///< [E]
  const std::int32_t* local_of = nullptr;    ///< [E]
  const std::int32_t* tokens = nullptr;      ///< [world]
  std::byte* const* peers = nullptr;         ///< [world] each rank's workspace.
  WorkspaceLayout layout = {};
  std::uint32_t epoch = 0;
  MatrixView y = {};
};

/// Computes this rank's experts for the tokens of all ranks, writes one partial per token, rounded
/// to the dtype, to the token's home, and sums what arrives for its own tokens in rank order.
/// Throws Error(timeout) naming the rank whose partials did not come.
void run_reference(const ReferenceCall& call, const WorldView& world);

}  // namespace comet
