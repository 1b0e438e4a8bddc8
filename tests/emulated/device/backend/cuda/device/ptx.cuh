// SPDX-License-Identifier: Apache-2.0
// What sums use of PTX, emulated: shared memory of one warp, asynchronous loads and stores, whose addresses
// must be aligned and within bounds.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "emulated/emulator.hpp"

namespace comet::cuda {

/// Memory of a run of sums. A load comes either when it is issued or when its lane waits for it, as `is_eager` says:
/// on a GPU at any time between.
struct SumMemory {
  std::vector<std::byte> shared;
  const std::byte* entries_begin = nullptr;
  const std::byte* entries_end = nullptr;
  bool is_eager = false;

  struct Load {
    std::uint32_t to;
    const std::byte* from;
  };
  using Group = std::vector<Load>;
  Group issued[emulated::kWarp] = {};
  std::vector<Group> groups[emulated::kWarp] = {};

  std::byte* shared_at(std::uint32_t at, std::uint32_t bytes) {
    if (at % bytes != 0 || at + bytes > shared.size()) emulated::fail_thread("shared memory");
    return shared.data() + at;
  }
  void do_load(const Load& load) {
    const bool is_within = load.from >= entries_begin && load.from + 16 <= entries_end;
    if (!is_within || (load.from - entries_begin) % 16 != 0) emulated::fail_thread("an entry");
    std::memcpy(shared_at(load.to, 16), load.from, 16);
  }
};
inline SumMemory sum_memory;

inline unsigned sum_lane() { return emulated::thread_index.x % emulated::kWarp; }

inline void async_load_16(std::uint32_t to, const void* from) {
  const SumMemory::Load load{to, static_cast<const std::byte*>(from)};
  if (sum_memory.is_eager) return sum_memory.do_load(load);
  sum_memory.issued[sum_lane()].push_back(load);
}

inline void async_commit() {
  SumMemory::Group& issued = sum_memory.issued[sum_lane()];
  sum_memory.groups[sum_lane()].push_back(issued);
  issued.clear();
}

template <int PENDING>
void async_wait() {
  std::vector<SumMemory::Group>& groups = sum_memory.groups[sum_lane()];
  while (groups.size() > PENDING) {
    for (const SumMemory::Load& load : groups.front()) sum_memory.do_load(load);
    groups.erase(groups.begin());
  }
}

inline void store_shared(std::uint32_t to, std::uint32_t value) {
  std::memcpy(sum_memory.shared_at(to, 4), &value, 4);
}

inline void store_shared(std::uint32_t to, unsigned long long value) {
  std::memcpy(sum_memory.shared_at(to, 8), &value, 8);
}

inline uint4 load_shared(std::uint32_t from) {
  uint4 value;
  std::memcpy(&value, sum_memory.shared_at(from, 16), 16);
  return value;
}

inline void store_global_if(bool stores, unsigned long long to, const uint4& value) {
  if (!stores) return;
  if (to % 16 != 0) emulated::fail_thread("a sum's address");
  std::memcpy(reinterpret_cast<void*>(to), &value, 16);
}

}  // namespace comet::cuda
