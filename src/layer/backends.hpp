// SPDX-License-Identifier: Apache-2.0
// What this build and machine can run on: backends, their GPUs and schedules, and worlds.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "comet/layer.hpp"
#include "layout/layer_dims.hpp"

namespace comet {

struct BuildPart {
  std::string name;
  bool is_built = false;
  std::string detail;  ///< What it is, or how to do without it. One line.
};

/// Built parts first.
std::vector<BuildPart> describe_backends();
/// Built parts first.
std::vector<BuildPart> describe_worlds();

/// A GPU that this process sees.
struct GpuPart {
  std::string name;
  int multiprocessors = 0;
  std::int64_t memory_bytes = 0;
  bool is_usable = false;  ///< Layers can run on it.
};
/// Empty without a driver, or where CUDA is not built. Index: CUDA's number of the GPU.
std::vector<GpuPart> describe_gpus();

/// What follows "cuda" in the list of backends. Apart, for machines that the caller is not on.
std::string gpu_detail(bool is_built, std::span<const GpuPart> gpus);

/// Throws Error(unsupported) if no layer can run on `backend` here: better before a case's data is
/// made than after it.
void require_backend(Backend backend);

/// Tiled schedules, which agree bit for bit, that layers on `backend` run, slowest first.
std::span<const Schedule> tiled_schedules(Backend backend);

/// Fills what MoeLayer::create chooses of a tile: block_m and block_n where they are 0, and
/// panel_n.
void choose_layer_tile(Backend backend, LayerDims& dims);

}  // namespace comet
