// SPDX-License-Identifier: Apache-2.0
#include "comm/device_memory.hpp"

#include "base/check.hpp"

namespace comet {

void check_memory(std::span<const DeviceMemory> ranks) {
  int rank = 0;
  for (const DeviceMemory& memory : ranks) {
    check(memory.free >= memory.needed, ErrorCode::capacity,
          "[world] out of memory: rank {}'s GPU has {} bytes free, memory that is shared with all "
          "ranks takes {}",
          rank, memory.free, memory.needed);
    ++rank;
  }
}

}  // namespace comet
