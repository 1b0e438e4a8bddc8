// SPDX-License-Identifier: Apache-2.0
// Where a GPU's global timer lies on the host's clock: GPUs have a timer each.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace comet::cuda {

/// The host's steady clock when the timer of the current GPU was 0, nanoseconds, late by what it
/// takes to see a kernel's end (microseconds, alike on all GPUs). `stream`, of that GPU, is idle.
std::int64_t find_timer_origin(cudaStream_t stream);

}  // namespace comet::cuda
