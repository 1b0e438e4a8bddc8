// SPDX-License-Identifier: Apache-2.0
// What the buffers hold, so that a transfer can be checked.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "base/platform.hpp"

namespace comet::node {

/// Word `index` of what GPU `gpu` sends. Words of a GPU all differ, as do those of an index.
COMET_HOST_DEVICE constexpr std::uint32_t pattern_word(std::uint32_t gpu, std::uint32_t index) {
  return ((index + 1) * 0x9e3779b1U) ^ ((gpu + 1) * 0x85ebca6bU);
}

struct WrongWords {
  unsigned long long count;
  unsigned long long first;  ///< Index; the largest value if there is none.
};

/// Writes GPU `gpu`'s words to words[count].
void launch_fill_pattern(std::uint32_t* words, std::uint32_t count, std::uint32_t gpu,
                         cudaStream_t stream);

/// Adds to `*wrong` those of words[count] that are not GPU `gpu`'s.
void launch_find_wrong(const std::uint32_t* words, std::uint32_t count, std::uint32_t gpu,
                       WrongWords* wrong, cudaStream_t stream);

/// Loads both on the current device. Before any launch on it.
void preload_pattern_kernels();

}  // namespace comet::node
