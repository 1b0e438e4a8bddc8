// SPDX-License-Identifier: Apache-2.0
// Which GPU a rank of `comet launch --gpus` gets, and how its process is told.
#pragma once

#include <string>
#include <vector>

namespace comet::cli {

/// A rank's place on its GPU.
struct GpuShare {
  int gpu = 0;    ///< Index among the GPUs of the launch.
  int ranks = 1;  ///< On this GPU.
  int index = 0;  ///< Of this rank among them.
};

/// Ranks of a GPU are neighbours, as in a world of one process. `gpus` <= `ranks`.
GpuShare gpu_share(int rank, int ranks, int gpus);

/// The first `gpus` GPUs as CUDA_VISIBLE_DEVICES names them: the user's entries, else 0, 1, ....
/// Throws Error(invalid_argument) if the user's are fewer.
std::vector<std::string> name_gpus(int gpus);

/// Tells this process, before CUDA starts in it, its share: it sees the GPU `name` alone. What the
/// user has set of how CUDA makes its queues stays.
void take_gpu_share(const GpuShare& share, const std::string& name);

}  // namespace comet::cli
