// SPDX-License-Identifier: Apache-2.0
// Which GPU a rank of `comet launch --gpus` gets, and how its process is told.
#pragma once

#include <string>
#include <vector>

namespace comet::cli {

/// Index of a rank's GPU among those of the launch. Ranks of a GPU are neighbours, as in a world of
/// one process. `gpus` <= `ranks`.
int gpu_of(int rank, int ranks, int gpus);

/// The first `gpus` GPUs as CUDA_VISIBLE_DEVICES names them: the user's entries, else 0, 1, ....
/// Throws Error(invalid_argument) if the user's are fewer.
std::vector<std::string> name_gpus(int gpus);

/// Lets this process, before CUDA starts in it, see the GPU `name` alone.
void take_gpu(const std::string& name);

}  // namespace comet::cli
