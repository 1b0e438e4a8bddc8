// SPDX-License-Identifier: Apache-2.0
// The GPUs that this process sees.
#pragma once

#include <vector>

namespace comet::cuda {

/// CUDA's numbers of the Hopper GPUs. Throws Error(unsupported), saying what there is, if there is
/// none.
std::vector<int> find_hoppers();

/// Streams share hardware queues, 8 unless CUDA is told otherwise before it starts; a kernel that
/// waits for another rank of the process may then hold up that rank's kernels behind it. A value
/// that the user has set stays. Not for ranks that are processes, which have queues of their own:
/// MPS has too few to give eight of them 32 each.
void ask_for_queues();

}  // namespace comet::cuda
