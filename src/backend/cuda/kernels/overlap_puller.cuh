// SPDX-License-Identifier: Apache-2.0
// Puller: a warp that brings tokens of other ranks to their rows by bulk copies through shared
// memory.
#pragma once

#include "backend/cuda/device/ptx.cuh"
#include "backend/cuda/kernels/overlap.hpp"
#include "backend/cuda/kernels/overlap_sums.cuh"
#include "backend/cuda/kernels/token_source.cuh"

namespace comet::cuda::overlap {

/// The first rows of the lane's token, in registers; most tokens have no more.
struct FirstRows {
  static constexpr int kCount = 4;
  std::int32_t row[kCount];
};

__device__ __forceinline__ FirstRows first_rows(const CallParams& p, const TokenRows& token) {
  FirstRows first;
#pragma unroll
  for (int r = 0; r < FirstRows::kCount; ++r) {
    const bool is_there = token.source >= 0 && r < token.num_rows;
    first.row[r] = is_there ? p.plan.rows[token.row_begin + r].row : 0;
  }
  return first;
}

/// Buffers are loaded ahead while earlier ones are stored. All lanes of a warp.
class Puller {
 public:
  static constexpr int kMostBuffers = 8;
  static constexpr std::int32_t kMostBytes = 2048;  // of a copy

  /// `buffers` are `bytes` of shared memory, `barriers` kMostBuffers initialised with one arrival.
  __device__ __forceinline__ Puller(const CallParams& p, std::uint32_t buffers, std::int32_t bytes,
                                    std::uint32_t barriers)
      : p_(p), buffers_(buffers), barriers_(barriers) {
    const auto row_bytes = static_cast<std::int32_t>(p.dims.row_bytes());
    parts_ = (row_bytes + kMostBytes - 1) / kMostBytes;
    part_bytes_ = (row_bytes / 16 + parts_ - 1) / parts_ * 16;
    num_buffers_ = bytes / part_bytes_ < kMostBuffers ? bytes / part_bytes_ : kMostBuffers;
  }

  /// Copies the lanes' tokens to their rows; all is written when it returns, for lane 0. Calls
  /// `meanwhile` once the first ones are on their way.
  template <typename Meanwhile>
  __device__ __forceinline__ void copy(const TokenRows& mine, Meanwhile meanwhile) {
    const unsigned tokens = __ballot_sync(kAllLanes, mine.source >= 0);
    const int units = __popc(tokens) * parts_;
    const FirstRows rows = first_rows(p_, mine);
    Place loaded{tokens, 0};
    Place stored{tokens, 0};
    int ahead = 0;  // units loaded and not stored
    for (int unit = 0; unit < units; ++unit) {
      for (; ahead < num_buffers_ - 1 && unit + ahead < units; ++ahead) load(loaded, mine);
      if (unit == 0) meanwhile();
      store(stored, mine, rows);
      --ahead;
      // Of the stores before, all but the last have read their buffers: one more may be loaded.
      if (lane_id() == 0) bulk_wait_read<1>();
    }
    if (lane_id() == 0) {
      bulk_wait_all();
      fence_proxy_async_global();
    }
  }

 private:
  // A part of a token: of the lowest lane in `left`.
  struct Place {
    unsigned left;
    int part;
  };

  __device__ __forceinline__ void advance(Place& place) const {
    if (++place.part < parts_) return;
    place.part = 0;
    place.left &= place.left - 1;
  }
  __device__ __forceinline__ std::uint32_t bytes_of(int part) const {
    const auto left = static_cast<std::int32_t>(p_.dims.row_bytes()) - part * part_bytes_;
    return static_cast<std::uint32_t>(left < part_bytes_ ? left : part_bytes_);
  }

  __device__ __forceinline__ void load(Place& place, const TokenRows& mine) {
    const int lane = __ffs(static_cast<int>(place.left)) - 1;
    const std::int32_t source = __shfl_sync(kAllLanes, mine.source, lane);
    const std::int32_t token = __shfl_sync(kAllLanes, mine.token, lane);
    if (lane_id() == 0) {
      const std::uint32_t bytes = bytes_of(place.part);
      const std::uint32_t barrier = barriers_ + load_buffer_ * 8;
      mbarrier_expect(barrier, bytes);
      bulk_load(buffers_ + load_buffer_ * part_bytes_,
                token_at(p_, source, token) + place.part * part_bytes_, bytes, barrier);
    }
    if (++load_buffer_ == num_buffers_) load_buffer_ = 0;
    advance(place);
  }

  __device__ __forceinline__ void store(Place& place, const TokenRows& mine,
                                        const FirstRows& rows) {
    const int lane = __ffs(static_cast<int>(place.left)) - 1;
    const std::int32_t num_rows = __shfl_sync(kAllLanes, mine.num_rows, lane);
    const std::int32_t row_begin = __shfl_sync(kAllLanes, mine.row_begin, lane);
    const std::uint32_t bytes = bytes_of(place.part);
    const std::uint32_t from = buffers_ + store_buffer_ * part_bytes_;
    if (lane_id() == 0) mbarrier_wait(barriers_ + store_buffer_ * 8, store_phase_);
#pragma unroll
    for (int r = 0; r < FirstRows::kCount; ++r) {
      const std::int32_t row = __shfl_sync(kAllLanes, rows.row[r], lane);
      if (lane_id() == 0 && r < num_rows) store_row(row, place.part, from, bytes);
    }
    if (lane_id() == 0) {
      for (std::int32_t r = FirstRows::kCount; r < num_rows; ++r) {
        store_row(p_.plan.rows[row_begin + r].row, place.part, from, bytes);
      }
      bulk_commit();
    }
    if (++store_buffer_ == num_buffers_) {
      store_buffer_ = 0;
      store_phase_ ^= 1;
    }
    advance(place);
  }

  __device__ __forceinline__ void store_row(std::int32_t row, int part, std::uint32_t from,
                                            std::uint32_t bytes) const {
    bulk_store(p_.rows + row * p_.dims.row_bytes() + part * part_bytes_, from, bytes);
  }

  const CallParams& p_;
  std::uint32_t buffers_;
  std::uint32_t barriers_;
  int parts_;                // of a row
  std::int32_t part_bytes_;  // of all parts but perhaps the last
  int num_buffers_;
  int load_buffer_ = 0;
  int store_buffer_ = 0;
  std::uint32_t store_phase_ = 0;
};

}  // namespace comet::cuda::overlap
