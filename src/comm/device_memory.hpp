// SPDX-License-Identifier: Apache-2.0
// DeviceMemory: what shared memory takes of the ranks' GPUs, and whether all of them have it.
#pragma once

#include <cstdint>
#include <span>

namespace comet {

/// Of one rank's GPU, bytes.
struct DeviceMemory {
  std::uint64_t needed = 0;  ///< By all ranks that share the GPU; 0: no new memory.
  std::uint64_t free = 0;
};

/// Throws Error(capacity) that names the lowest rank whose GPU has less than is needed: the same on
/// all ranks, which have told each other theirs, in rank order. So it comes before a collective
/// allocation in which a rank that got nothing would leave the others waiting.
void check_memory(std::span<const DeviceMemory> ranks);

}  // namespace comet
