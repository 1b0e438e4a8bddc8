// SPDX-License-Identifier: Apache-2.0
// Runs one block of a checkpoint on a world: what `comet run` does once its input is read.
#pragma once

#include <optional>
#include <vector>

#include "cli/tokens.hpp"
#include "comet/layer.hpp"
#include "layer/device_calls.hpp"
#include "layer/world_runner.hpp"
#include "models/hf_block.hpp"

namespace comet::cli {

struct LayerRun {
  MoeBlock& block;  ///< Its max_tokens is set from the tokens.
  const Tokens& x;
  ParallelDesc parallel;
  Backend backend = Backend::cpu;
  LinkSpec link;
  LayerOptions layer;
  ForwardOptions forward;
  bool is_checked = false;  ///< Run Schedule::reference too, on cpu whatever the backend.
  WorldRunner world = run_local_world;
};

struct LayerResult {
  Tokens y;
  std::optional<Tokens> reference;  ///< If is_checked.
  std::vector<CallStats> stats;     ///< [W] of the wished schedule.
  RankDeviceInfo device = {};       ///< Of rank 0; nothing on cpu.
};

/// Each rank routes its share of the tokens, runs the layer and adds the shared expert. Router and
/// shared expert are the host's on any backend. Where ranks are processes, all make the call and
/// get the whole result.
LayerResult run_layer(const LayerRun& run);

}  // namespace comet::cli
