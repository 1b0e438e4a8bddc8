// SPDX-License-Identifier: Apache-2.0
// What sums and copies use of PTX, emulated: shared memory, and loads and stores that go on by themselves. Addresses
// must be aligned and within bounds.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <vector>

#include "emulated/emulator.hpp"

namespace comet::cuda {

/// Memory of sums of the warps of a block. A load comes either when it is issued or when its thread waits for it, as
/// `is_eager` says: on a GPU at any time between.
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
  struct Thread {
    Group issued;
    std::vector<Group> groups;
  };
  std::map<unsigned, Thread> threads = {};

  Thread& own() { return threads[emulated::thread_index.x]; }

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

inline void async_load_16(std::uint32_t to, const void* from) {
  const SumMemory::Load load{to, static_cast<const std::byte*>(from)};
  if (sum_memory.is_eager) return sum_memory.do_load(load);
  sum_memory.own().issued.push_back(load);
}

inline void async_commit() {
  SumMemory::Thread& own = sum_memory.own();
  own.groups.push_back(own.issued);
  own.issued.clear();
}

template <int PENDING>
void async_wait() {
  std::vector<SumMemory::Group>& groups = sum_memory.own().groups;
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

/// Shared memory of a block whose warps copy in bulk. A load comes when it is issued or when its barrier is waited for,
/// and a store reads its shared memory when it is issued or when it is waited for: on a GPU at any time between.
struct BulkMemory {
  struct Copy {
    std::byte* to;
    const std::byte* from;
    std::uint32_t bytes;
    void make() const { std::memcpy(to, from, bytes); }
  };
  struct Barrier {
    std::uint32_t phases = 0;  // that are over
    bool is_armed = false;
    std::uint32_t missing = 0;  // bytes
    std::vector<Copy> loads;
  };
  struct Thread {
    std::vector<Copy> issued;
    std::vector<std::vector<Copy>> groups;
  };

  std::vector<std::byte> shared;
  bool has_eager_loads = false;
  bool has_eager_stores = false;
  std::map<std::uint32_t, Barrier> barriers = {};
  std::map<unsigned, Thread> threads = {};

  std::byte* shared_at(std::uint32_t at, std::uint32_t bytes) {
    if (at % 16 != 0 || bytes % 16 != 0 || at + bytes > shared.size()) {
      emulated::fail_thread("shared memory of a bulk copy");
    }
    return shared.data() + at;
  }
  Thread& own() { return threads[emulated::thread_index.x]; }
};
inline BulkMemory bulk_memory;

inline void check_bulk_address(const void* at) {
  if (reinterpret_cast<std::uintptr_t>(at) % 16 != 0) emulated::fail_thread("a bulk copy's address");
}

inline void mbarrier_expect(std::uint32_t barrier, std::uint32_t bytes) {
  BulkMemory::Barrier& of = bulk_memory.barriers[barrier];
  if (of.is_armed) emulated::fail_thread("a barrier whose phase is not over");
  of.is_armed = true;
  of.missing += bytes;
}

inline void bulk_load(std::uint32_t to, const void* from, std::uint32_t bytes,
                      std::uint32_t barrier) {
  check_bulk_address(from);
  BulkMemory::Barrier& of = bulk_memory.barriers[barrier];
  of.loads.push_back({bulk_memory.shared_at(to, bytes), static_cast<const std::byte*>(from), bytes});
  if (bulk_memory.has_eager_loads) of.loads.back().make();
}

inline void mbarrier_wait(std::uint32_t barrier, std::uint32_t parity) {
  BulkMemory::Barrier& of = bulk_memory.barriers[barrier];
  if (of.phases % 2 != parity) return;
  for (const BulkMemory::Copy& load : of.loads) {
    if (!bulk_memory.has_eager_loads) load.make();
    of.missing -= load.bytes;
  }
  if (!of.is_armed || of.missing != 0) emulated::fail_thread("waits for a barrier for ever");
  of.loads.clear();
  of.is_armed = false;
  ++of.phases;
}

inline void bulk_store(void* to, std::uint32_t from, std::uint32_t bytes) {
  check_bulk_address(to);
  const BulkMemory::Copy store{static_cast<std::byte*>(to), bulk_memory.shared_at(from, bytes), bytes};
  if (bulk_memory.has_eager_stores) return store.make();
  bulk_memory.own().issued.push_back(store);
}

inline void bulk_commit() {
  BulkMemory::Thread& own = bulk_memory.own();
  own.groups.push_back(own.issued);
  own.issued.clear();
}

template <int PENDING>
void bulk_wait_read() {
  std::vector<std::vector<BulkMemory::Copy>>& groups = bulk_memory.own().groups;
  while (groups.size() > PENDING) {
    for (const BulkMemory::Copy& store : groups.front()) store.make();
    groups.erase(groups.begin());
  }
}

inline void bulk_wait_all() { bulk_wait_read<0>(); }

inline void fence_proxy_async_global() {}

}  // namespace comet::cuda
