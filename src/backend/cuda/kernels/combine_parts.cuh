// SPDX-License-Identifier: Apache-2.0
// What the staged and the fused combine share: panels, slots, and signals that wait for the link.
#pragma once

#include "backend/cuda/device/bounded_wait.cuh"
#include "backend/cuda/kernels/call_kernels.hpp"
#include "layout/token_blocks.hpp"

namespace comet::cuda {

// Signals whose payload the emulated link has not delivered yet, at most MOST. In shared memory; one
// thread owns it.
template <int MOST>
class PendingSignals {
 public:
  __device__ void add(std::uint32_t* slot, std::uint32_t epoch, unsigned long long delivered) {
    if (delivered == 0) return store_release_system(slot, epoch);
    if (count_ == MOST) send(earliest(), epoch);
    pending_[count_].slot = slot;
    pending_[count_].delivered = delivered;
    ++count_;
  }
  // Those that are due.
  __device__ void send_due(std::uint32_t epoch) {
    if (count_ == 0) return;
    const unsigned long long now = global_timer();
    for (int i = count_ - 1; i >= 0; --i) {
      if (pending_[i].delivered <= now) send(i, epoch);
    }
  }
  __device__ void send_all(std::uint32_t epoch) {
    while (count_ > 0) send(earliest(), epoch);
  }
  __device__ void clear() { count_ = 0; }
  __device__ bool is_empty() const { return count_ == 0; }

 private:
  struct Pending {
    std::uint32_t* slot;
    unsigned long long delivered;
  };

  __device__ int earliest() const {
    int found = 0;
    for (int i = 1; i < count_; ++i) {
      if (pending_[i].delivered < pending_[found].delivered) found = i;
    }
    return found;
  }
  __device__ void send(int index, std::uint32_t epoch) {
    sleep_until(pending_[index].delivered);
    store_release_system(pending_[index].slot, epoch);
    --count_;
    pending_[index] = pending_[count_];
  }

  Pending pending_[MOST];
  int count_;
};

__device__ inline ColumnRange columns_of(const CallParams& p, std::int32_t panel) {
  return p.panels.columns(panel);
}

/// Whether a token's only partial sum is the own one, in a world of one rank. It is then written to
/// y, nothing is signalled, and all that is left for home sums are tokens without rows.
__device__ inline bool pushes_write_y(const CallParams& p) { return p.dims.world == 1; }

/// Whether rows of y begin at multiples of 16 bytes.
__device__ inline bool is_y_aligned(const CallParams& p) {
  return ((reinterpret_cast<std::uintptr_t>(p.y) | static_cast<std::uintptr_t>(p.y_stride_bytes)) & 15U) == 0;
}

__device__ inline std::uint32_t* combine_slot_at(const CallParams& p, std::int32_t home,
                                                 std::int32_t source, std::int32_t panel,
                                                 std::int32_t block) {
  return reinterpret_cast<std::uint32_t*>(p.peers[home] + p.layout.combine_slots) +
         combine_slot(source, panel, block, p.panels.count(), num_token_blocks(p.dims.max_tokens));
}

}  // namespace comet::cuda
