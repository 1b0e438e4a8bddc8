// SPDX-License-Identifier: Apache-2.0
// What products use of PTX, emulated: a block's shared memory, mbarriers, and TMA loads of boxes, which come when they
// are issued or as late as they may. There are no clusters.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <vector>

#include "backend/cuda/host/tensor_map.hpp"

namespace comet::cuda {

/// What an emulated CUtensorMap holds.
struct BoxMap {
  MatrixSpan matrix;
  std::int64_t box_rows;
};
static_assert(sizeof(BoxMap) <= sizeof(CUtensorMap));

/// Shared memory of the block that runs, and its mbarriers.
struct ProductMemory {
  struct Box {
    BoxMap map;
    std::uint32_t to;
    int x, y;
  };
  struct Barrier {
    std::int32_t arrivals = 0;  // of a phase
    std::int32_t arrived = 0;
    std::int64_t missing = 0;  // bytes: expected, less what has come
    std::uint32_t phases = 0;  // that are over
    std::vector<Box> boxes;
  };
  std::byte* shared = nullptr;
  std::size_t bytes = 0;
  bool is_eager = false;
  std::map<std::uint32_t, Barrier> barriers = {};
  std::int64_t loaded_bytes = 0;

  std::byte* at(std::uint32_t address, std::uint32_t count) const {
    if (address + count > bytes) emulated::fail_thread("shared memory of products");
    return shared + address;
  }
  Barrier& barrier(std::uint32_t address) {
    const auto found = barriers.find(address);
    if (found == barriers.end()) emulated::fail_thread("a barrier that nobody has made");
    return found->second;
  }
  // Rows of 128 bytes, whose pieces of 16 are swizzled by the address; zeros outside of the matrix.
  void load(const Box& box) const {
    constexpr std::uint32_t kRow = 128;
    constexpr std::uint32_t kPiece = 16;
    const auto* data = static_cast<const std::byte*>(box.map.matrix.data);
    for (std::uint32_t r = 0; r < box.map.box_rows; ++r) {
      const std::uint32_t to = box.to + r * kRow;
      for (std::uint32_t piece = 0; piece < kRow / kPiece; ++piece) {
        const std::int64_t row = box.y + r;
        const std::int64_t column = box.x + piece * 8;
        std::byte* const target = at(to + (piece ^ (to / kRow % 8)) * kPiece, kPiece);
        std::memset(target, 0, kPiece);
        if (row >= box.map.matrix.rows || column >= box.map.matrix.cols) continue;
        const std::int64_t left = (box.map.matrix.cols - column) * 2;
        std::memcpy(target, data + (row * box.map.matrix.row_stride + column) * 2,
                    static_cast<std::size_t>(left < kPiece ? left : kPiece));
      }
    }
  }
  void end_phase(Barrier& of) const {
    if (of.arrived < of.arrivals || of.missing != 0) return;
    if (!is_eager) {
      for (const Box& box : of.boxes) load(box);
    }
    of.boxes.clear();
    of.arrived = 0;
    ++of.phases;
  }
};
inline ProductMemory product_memory;

inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(static_cast<const std::byte*>(pointer) - product_memory.shared);
}

inline void mbarrier_init(std::uint32_t barrier, int arrivals) {
  product_memory.at(barrier, 8);
  product_memory.barriers[barrier] = {.arrivals = arrivals};
}
inline void mbarrier_init_fence() {}

inline void mbarrier_arrive(std::uint32_t barrier) {
  ProductMemory::Barrier& of = product_memory.barrier(barrier);
  if (of.arrived == of.arrivals) emulated::fail_thread("arrives once too often");
  ++of.arrived;
  product_memory.end_phase(of);
}

inline void mbarrier_expect(std::uint32_t barrier, std::uint32_t bytes) {
  product_memory.barrier(barrier).missing += bytes;
  mbarrier_arrive(barrier);
}

inline void mbarrier_wait(std::uint32_t barrier, std::uint32_t parity) {
  constexpr int kMostLooks = 10'000'000;
  const ProductMemory::Barrier& of = product_memory.barrier(barrier);
  for (int looks = 0; of.phases % 2 == parity; ++looks) {
    if (looks == kMostLooks) emulated::fail_thread("waits for a barrier for ever");
    emulated::let_others_go_on();
  }
}

inline void tma_load_2d(std::uint32_t to, const CUtensorMap* map, int x, int y,
                        std::uint32_t barrier) {
  BoxMap box_map;
  std::memcpy(&box_map, map, sizeof(box_map));
  if (to % 1024 != 0) emulated::fail_thread("a box between two atoms of the swizzle");
  ProductMemory::Barrier& of = product_memory.barrier(barrier);
  of.boxes.push_back({box_map, to, x, y});
  if (product_memory.is_eager) product_memory.load(of.boxes.back());
  of.missing -= box_map.box_rows * 128;
  product_memory.loaded_bytes += box_map.box_rows * 128;
  product_memory.end_phase(of);
}

inline void tensor_map_acquire(const CUtensorMap*) {}
inline void fence_proxy_async_global() {}
template <int REGISTERS>
void give_registers() {}
template <int REGISTERS>
void take_registers() {}

inline std::uint32_t rank_in_cluster() { return 0; }
inline std::uint32_t blocks_of_cluster() { return 1; }
inline void cluster_sync() {}
inline std::uint32_t address_in_cluster(std::uint32_t address, std::uint32_t) { return address; }
inline void mbarrier_arrive_in_cluster(std::uint32_t) {}
inline void tma_load_2d_multicast(std::uint32_t, const CUtensorMap*, int, int, std::uint32_t, int) {
  emulated::fail_thread("a load of a cluster");
}

}  // namespace comet::cuda
