// SPDX-License-Identifier: Apache-2.0
// Runs one block of a checkpoint on a local world: what `comet run` does once its input is read.
#pragma once

#include <optional>
#include <vector>

#include "cli/tokens.hpp"
#include "comet/layer.hpp"
#include "models/hf_block.hpp"

namespace comet::cli {

struct LayerRun {
  MoeBlock& block;  ///< Its max_tokens is set from the tokens.
  const Tokens& x;
  ParallelDesc parallel;
  LinkSpec link;
  LayerOptions layer;
  ForwardOptions forward;
  bool is_checked = false;  ///< Run Schedule::reference too.
};

struct LayerResult {
  Tokens y;
  std::optional<Tokens> reference;  ///< If is_checked.
  std::vector<CallStats> stats;     ///< [W] of the wished schedule.
};

/// Each rank routes its share of the tokens, runs the layer and adds the shared expert.
LayerResult run_layer(const LayerRun& run);

}  // namespace comet::cli
