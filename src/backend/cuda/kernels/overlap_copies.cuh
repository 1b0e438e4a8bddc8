// SPDX-License-Identifier: Apache-2.0
// Tokens to their rows, by single warps: own ones by loads and stores, those of other ranks by bulk
// copies through shared memory. Tiles count the rows that have arrived.
#pragma once

#include "backend/cuda/device/bounded_wait.cuh"
#include "backend/cuda/device/paced_clock.cuh"
#include "backend/cuda/device/ptx.cuh"
#include "backend/cuda/device/trace_span.cuh"
#include "backend/cuda/kernels/overlap.hpp"
#include "backend/cuda/kernels/overlap_sums.cuh"
#include "backend/cuda/kernels/sent_tokens.cuh"
#include "backend/cuda/kernels/token_source.cuh"

namespace comet::cuda::overlap {

/// Warps of a block that copy and sum beside its products.
constexpr int kCopyWarps = 3;

/// Copies and sums of a block are shown apart from its products.
__device__ __forceinline__ std::int32_t copy_worker() {
  return static_cast<std::int32_t>(gridDim.x + blockIdx.x);
}

/// The next ticket of a warp.
__device__ __forceinline__ std::uint32_t take_ticket(std::uint32_t* tickets) {
  std::uint32_t ticket = 0;
  if (lane_id() == 0) ticket = atomicAdd(tickets, 1U);
  return __shfl_sync(kAllLanes, ticket, 0);
}

/// Routing weights of the lane's token to its rows, if it has one.
__device__ __forceinline__ void write_row_weights(const CallParams& p, const TokenRows& token) {
  if (token.source < 0) return;
  const auto* weights = reinterpret_cast<const float*>(p.peers[token.source] +
                                                       p.layout.weights[p.state->epoch & 1U]) +
                        std::int64_t{token.token} * p.dims.topk;
  constexpr int kBatch = 4;  // of loads on their way at once
#pragma unroll 1
  for (std::int32_t first = 0; first < token.num_rows; first += kBatch) {
    const std::int32_t left = token.num_rows - first;
    NeededRow rows[kBatch];
    float values[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (i < left) rows[i] = p.plan.rows[token.row_begin + first + i];
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (i < left) values[i] = weights[rows[i].choice];
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (i < left) p.row_weights[rows[i].row] = values[i];
    }
  }
}

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

/// Counts the rows of the lane's token, if it has one, and releases what the warp has written
/// before its last __syncwarp.
template <int BLOCK_M>
__device__ __forceinline__ void signal_rows(const OverlapParams& p, const TokenRows& token) {
  if (token.source < 0) return;
  const FirstRows first = first_rows(p.call, token);
  fence_release_gpu();  // one for all rows
#pragma unroll
  for (int r = 0; r < FirstRows::kCount; ++r) {
    if (r < token.num_rows) add_relaxed_gpu(p.order.arrived + first.row[r] / BLOCK_M, 1U);
  }
  for (std::int32_t r = FirstRows::kCount; r < token.num_rows; ++r) {
    const std::int32_t row = p.call.plan.rows[token.row_begin + r].row;
    add_relaxed_gpu(p.order.arrived + row / BLOCK_M, 1U);
  }
}

/// Copies the lanes' tokens one after the other by loads and stores, all 4096 bytes of a piece in
/// flight at once.
__device__ __forceinline__ void copy_tokens(const CallParams& p, const TokenRows& mine) {
  constexpr int kUnroll = 8;
  const FirstRows rows = first_rows(p, mine);
  const std::int64_t row_bytes = p.dims.row_bytes();
  const auto words = static_cast<std::int32_t>(row_bytes / 16);
  unsigned left = __ballot_sync(kAllLanes, mine.source >= 0);
#pragma unroll 1
  for (; left != 0; left &= left - 1) {
    const int lane = __ffs(static_cast<int>(left)) - 1;
    const std::int32_t row_begin = __shfl_sync(kAllLanes, mine.row_begin, lane);
    const std::int32_t num_rows = __shfl_sync(kAllLanes, mine.num_rows, lane);
    const std::int32_t source = __shfl_sync(kAllLanes, mine.source, lane);
    const std::int32_t token = __shfl_sync(kAllLanes, mine.token, lane);
    const auto* from = reinterpret_cast<const uint4*>(token_at(p, source, token));
#pragma unroll 1
    for (std::int32_t first = lane_id(); first - lane_id() < words; first += kUnroll * kLanes) {
      uint4 values[kUnroll];
#pragma unroll
      for (int i = 0; i < kUnroll; ++i) {
        const std::int32_t at = first + i * kLanes;
        if (at >= words) continue;
        values[i] = load_token_part(p, from + at);
      }
      const auto store = [&](std::int32_t row) {
        auto* to = reinterpret_cast<uint4*>(p.rows + row * row_bytes);
#pragma unroll
        for (int i = 0; i < kUnroll; ++i) {
          const std::int32_t at = first + i * kLanes;
          if (at < words) to[at] = values[i];
        }
      };
#pragma unroll
      for (int r = 0; r < FirstRows::kCount; ++r) {
        const std::int32_t row = __shfl_sync(kAllLanes, rows.row[r], lane);
        if (r < num_rows) store(row);
      }
#pragma unroll 1
      for (std::int32_t r = FirstRows::kCount; r < num_rows; ++r) {
        store(p.plan.rows[row_begin + r].row);
      }
    }
  }
}

/// The token that the lane's slot of a tile's [first, first + slots), at most 32, is the first to
/// need: only own tokens if `is_own`, else only those of other ranks.
template <int BLOCK_M>
__device__ __forceinline__ TokenRows find_arrival(const OverlapParams& p, std::int32_t tile,
                                                  std::int32_t first, std::int32_t slots,
                                                  bool is_own) {
  TokenRows mine{0, -1, 0, 0, 0};
  const std::int32_t slot = first + lane_id();
  if (lane_id() < slots && slot < p.call.plan.tiles[tile].rows) {
    mine = p.order.arrivals[tile * BLOCK_M + slot];
  }
  if ((mine.source == p.call.world.rank) != is_own) mine.source = -1;
  return mine;
}

/// Tiles that products begin with.
__device__ __forceinline__ std::int32_t num_first_tiles(const OverlapParams& p) {
  return min(p.choice.first_tiles, p.call.plan.counters->num_tiles);
}

/// Gathers own tokens by ticket, in the order of the tiles that need them first: of the first
/// tiles, of which a warp takes little at a time since products wait for them; then, unless
/// `only_first`, of the others.
template <int BLOCK_M>
__device__ __forceinline__ void gather_own(const OverlapParams& p, bool only_first) {
  const std::int32_t num_tiles = p.call.plan.counters->num_tiles;
  const std::int32_t first_tiles = num_first_tiles(p);
#pragma unroll 1
  for (int part = 0; part < (only_first ? 1 : 2); ++part) {
    const bool is_first = part == 0;
    const std::int32_t slots = is_first ? 4 : 16;
    const std::int32_t units_of_tile = BLOCK_M / slots;
    const std::int32_t begin = is_first ? 0 : first_tiles;
    const std::int32_t end = is_first ? first_tiles : num_tiles;
    const auto units = static_cast<std::uint32_t>((end - begin) * units_of_tile);
    std::uint32_t* const tickets =
        is_first ? &p.order.tickets->gather_first : &p.order.tickets->gather;
    for (;;) {
      const std::uint32_t ticket = take_ticket(tickets);
      if (ticket >= units) break;
      const auto unit = static_cast<std::int32_t>(ticket);
      const std::int32_t tile = p.order.tile_order[begin + unit / units_of_tile];
      const TokenRows mine =
          find_arrival<BLOCK_M>(p, tile, unit % units_of_tile * slots, slots, true);
      if (__ballot_sync(kAllLanes, mine.source >= 0) == 0) continue;
      const unsigned long long trace_start = trace_begin(p.call.trace);
      write_row_weights(p.call, mine);
      copy_tokens(p.call, mine);
      __syncwarp();
      signal_rows<BLOCK_M>(p, mine);
      if (lane_id() == 0) {
        trace_end(p.call.trace, trace_start, TraceKind::gather, copy_worker(), tile);
      }
    }
  }
}

/// A warp that pulls by bulk copies. Buffers are loaded ahead while earlier ones are stored.
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

  /// Copies the lanes' tokens to their rows; all is written when it returns, for lane 0. Calls `meanwhile` once
  /// the first ones are on their way.
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

/// Records that the paced link is busy with `bytes` until `delivered`. One thread.
__device__ __forceinline__ void trace_transfer(const CallParams& p, TraceKind kind,
                                               unsigned long long delivered, std::int64_t bytes,
                                               std::int32_t peer, std::int32_t panel) {
  if (p.trace.records == nullptr || delivered == 0) return;
  const auto duration =
      static_cast<unsigned long long>(static_cast<double>(bytes) * *p.world.ns_per_byte);
  trace_interval(p.trace, {delivered - duration, delivered, kind, static_cast<std::int16_t>(peer),
                           copy_worker(), -1, panel});
}

/// When the link has delivered the lanes' tokens, booked by source; the same in all lanes.
__device__ __forceinline__ unsigned long long book_pulls(const CallParams& p,
                                                         const TokenRows& mine) {
  if (*p.world.ns_per_byte <= 0) return 0;
  const unsigned same = __match_any_sync(kAllLanes, static_cast<int>(mine.source));
  unsigned long long delivered = 0;
  if (mine.source >= 0 && lane_id() == __ffs(static_cast<int>(same)) - 1) {
    const std::int64_t bytes = __popc(same) * (p.dims.row_bytes() + p.dims.weight_bytes());
    delivered = book_transfer(p.world, mine.source, p.world.rank, bytes);
    trace_transfer(p, TraceKind::link_pull, delivered, bytes, mine.source, -1);
  }
#pragma unroll
  for (int distance = 1; distance < kLanes; distance *= 2) {
    const unsigned long long other = __shfl_xor_sync(kAllLanes, delivered, distance);
    delivered = other > delivered ? other : delivered;
  }
  return delivered;
}

/// Tickets of pulls that cover a tile by `slots` row slots each.
__device__ __forceinline__ std::int32_t pulls_of_tile(const OverlapParams& p, std::int32_t slots) {
  return (static_cast<std::int32_t>(p.call.dims.block_m) + slots - 1) / slots;
}

/// Those of the first tiles.
__device__ __forceinline__ std::int32_t num_first_pulls(const OverlapParams& p) {
  return num_first_tiles(p) * pulls_of_tile(p, p.choice.slots_per_first_pull);
}

/// All tickets of pulls: none where no other rank has tokens for this one.
__device__ __forceinline__ std::uint32_t total_pulls(const OverlapParams& p) {
  const DevicePlanCounters& counters = *p.call.plan.counters;
  if (counters.tokens_in == 0) return 0;
  const std::int32_t later_tiles = counters.num_tiles - num_first_tiles(p);
  return static_cast<std::uint32_t>(num_first_pulls(p) +
                                    later_tiles * pulls_of_tile(p, p.choice.slots_per_pull));
}

/// What a ticket covers.
struct PullUnit {
  std::int32_t place;  ///< Of the tile.
  std::int32_t first;  ///< Of its row slots.
  std::int32_t slots;
};

__device__ __forceinline__ PullUnit pull_unit(const OverlapParams& p, std::uint32_t ticket) {
  const std::int32_t later = static_cast<std::int32_t>(ticket) - num_first_pulls(p);
  const bool is_first = later < 0;
  const std::int32_t slots = is_first ? p.choice.slots_per_first_pull : p.choice.slots_per_pull;
  const std::int32_t of_tile = pulls_of_tile(p, slots);
  const std::int32_t index = is_first ? static_cast<std::int32_t>(ticket) : later;
  const std::int32_t place = index / of_tile;
  return {(is_first ? 0 : num_first_tiles(p)) + place, (index - place * of_tile) * slots, slots};
}

/// Whether tickets of pulls are left to take.
__device__ __forceinline__ bool has_pulls_left(const OverlapParams& p) {
  return load_relaxed_gpu(&p.order.tickets->pull) < total_pulls(p);
}

/// Whether the lanes' tokens can be read, once they can, or a wait for them has failed.
__device__ __forceinline__ bool are_there(const CallParams& p, const TokenRows& mine) {
  const bool is_there =
      mine.source < 0 || wait_for_tokens(p, mine.source, mine.token / kTokenBlock);
  if (!is_there) p.state->abandoned = 1;
  fence_proxy_async_global();  // peers' puts are ordinary stores, or a network's
  __syncwarp();  // a vote orders no memory, and lane 0 copies what other lanes have acquired
  return __all_sync(kAllLanes, is_there) != 0;
}

/// Pulls tokens by ticket, in the order of the tiles that need them first, of the first tiles few at a
/// time: all warps' pulls share the link, and what each has begun later would hold up those. Waits for
/// nobody but the link, and for tokens that remote ranks put, whoever waits for this one.
template <int BLOCK_M>
__device__ __forceinline__ void pull_all(const OverlapParams& p, std::uint32_t buffers,
                                         std::int32_t buffer_bytes, std::uint32_t barriers) {
  const CallParams& call = p.call;
  const std::uint32_t total = total_pulls(p);
  Puller puller(call, buffers, buffer_bytes, barriers);
  fence_proxy_async_global();  // peers wrote x by ordinary stores
  for (;;) {
    const std::uint32_t ticket = take_ticket(&p.order.tickets->pull);
    if (ticket >= total) return;
    const PullUnit unit = pull_unit(p, ticket);
    const std::int32_t tile = p.order.tile_order[unit.place];
    const TokenRows mine = find_arrival<BLOCK_M>(p, tile, unit.first, unit.slots, false);
    if (__ballot_sync(kAllLanes, mine.source >= 0) == 0) continue;
    if (call.world.is_remote != nullptr && !are_there(call, mine)) return;
    const unsigned long long delivered = book_pulls(call, mine);
    const unsigned long long begin = trace_begin(call.trace);
    if (call.world.host_link) {
      write_row_weights(call, mine);
      copy_tokens(call, mine);
    } else {
      puller.copy(mine, [&] { write_row_weights(call, mine); });
    }
    if (lane_id() == 0) trace_end(call.trace, begin, TraceKind::pull, copy_worker(), tile);
    sleep_until(delivered);
    __syncwarp();
    signal_rows<BLOCK_M>(p, mine);
  }
}

}  // namespace comet::cuda::overlap
