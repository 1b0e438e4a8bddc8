// SPDX-License-Identifier: Apache-2.0
// The GPUs of `comet launch --gpus`, and how its ranks are told of them.
#pragma once

#include <string>
#include <vector>

namespace comet::cli {

/// The first `gpus` GPUs as CUDA_VISIBLE_DEVICES names them: the user's entries, else 0, 1, ....
/// Throws Error(invalid_argument) if the user's are fewer.
std::vector<std::string> name_gpus(int gpus);

/// Lets processes that this one starts see these GPUs alone, all of them, since ranks reach each
/// other's memory by what they see; a world spreads its ranks over them. `are_served` by an MPS
/// whose clients count the GPUs that it serves. Before CUDA starts in them.
void show_gpus(const std::vector<std::string>& names, bool are_served);

}  // namespace comet::cli
