// SPDX-License-Identifier: Apache-2.0
// Tokens to their rows, by single warps: own ones by loads and stores, those of other ranks by bulk
// copies through shared memory. Tiles count the rows that have arrived.
#pragma once

#include "backend/cuda/device/bounded_wait.cuh"
#include "backend/cuda/device/paced_clock.cuh"
#include "backend/cuda/device/ptx.cuh"
#include "backend/cuda/device/trace_span.cuh"
#include "backend/cuda/kernels/overlap.hpp"
#include "backend/cuda/kernels/overlap_puller.cuh"
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
/// flight at once. Calls `meanwhile` once the first ones are.
template <typename Meanwhile>
__device__ __forceinline__ void copy_tokens(const CallParams& p, const TokenRows& mine,
                                            Meanwhile meanwhile) {
  constexpr int kUnroll = 8;
  const FirstRows rows = first_rows(p, mine);
  const std::int64_t row_bytes = p.dims.row_bytes();
  const auto words = static_cast<std::int32_t>(row_bytes / 16);
  unsigned left = __ballot_sync(kAllLanes, mine.source >= 0);
  bool is_first = true;
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
      if (is_first) meanwhile();
      is_first = false;
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

/// Whether the lanes' tokens can be read, once they can, or a wait for them has failed.
__device__ __forceinline__ bool are_there(const CallParams& p, const TokenRows& mine) {
  const bool is_there =
      mine.source < 0 || wait_for_tokens(p, mine.source, mine.token / kTokenBlock);
  if (!is_there) p.state->abandoned = 1;
  fence_proxy_async_global();  // peers' puts are ordinary stores, or a network's
  __syncwarp();  // a vote orders no memory, and lane 0 copies what other lanes have acquired
  return __all_sync(kAllLanes, is_there) != 0;
}

/// What a warp brings to rows: own tokens, which it gathers, or those of other ranks, which it
/// pulls; of the first tiles, or of all others.
struct Errand {
  bool is_own;
  bool is_first;
};

/// How an errand is cut into units, which are taken by ticket.
struct ErrandUnits {
  std::int32_t begin;    ///< Place of its first tile.
  std::int32_t slots;    ///< Row slots of a unit, of one tile.
  std::int32_t of_tile;  ///< Units of a tile.
  std::uint32_t total;   ///< No pulls where no other rank has tokens for this one.
};

__device__ __forceinline__ ErrandUnits units_of(const OverlapParams& p, Errand errand) {
  const DevicePlanCounters& counters = *p.call.plan.counters;
  const auto [is_own, is_first] = errand;
  // Products wait for the first tiles, and what all warps do at once is ready when each has done
  // its part: few slots.
  const std::int32_t slots = is_own     ? (is_first ? 4 : 16)
                             : is_first ? p.choice.slots_per_first_pull
                                        : p.choice.slots_per_pull;
  const std::int32_t of_tile = (static_cast<std::int32_t>(p.call.dims.block_m) + slots - 1) / slots;
  const std::int32_t begin = is_first ? 0 : num_first_tiles(p);
  const std::int32_t tiles = is_first ? num_first_tiles(p) : counters.num_tiles - begin;
  const bool has_any = is_own || counters.tokens_in > 0;
  return {begin, slots, of_tile, static_cast<std::uint32_t>(has_any ? tiles * of_tile : 0)};
}

__device__ __forceinline__ std::uint32_t* tickets_of(const OverlapParams& p, Errand errand) {
  OverlapTickets& tickets = *p.order.tickets;
  if (errand.is_own) return errand.is_first ? &tickets.gather_first : &tickets.gather;
  return errand.is_first ? &tickets.pull_first : &tickets.pull;
}

/// Whether tickets of pulls are left to take.
__device__ __forceinline__ bool has_pulls_left(const OverlapParams& p) {
  const auto has_left = [&](Errand errand) {
    return load_relaxed_gpu(tickets_of(p, errand)) < units_of(p, errand).total;
  };
  return has_left({false, false}) || has_left({false, true});
}

/// Brings tokens by ticket, in the order of the tiles that need them, until no ticket is left; false
/// if a wait has failed before. `copy(mine, meanwhile)` copies the lanes' tokens. Waits for nobody
/// but the link, and for tokens that remote ranks put, whoever waits for this one.
template <int BLOCK_M, typename Copy>
__device__ __forceinline__ bool bring_tokens(const OverlapParams& p, Errand errand, Copy copy) {
  const CallParams& call = p.call;
  const bool is_own = errand.is_own;
  std::uint32_t* const tickets = tickets_of(p, errand);
  const ErrandUnits units = units_of(p, errand);
  for (;;) {
    const std::uint32_t ticket = take_ticket(tickets);
    if (ticket >= units.total) return true;
    const auto unit = static_cast<std::int32_t>(ticket);
    const std::int32_t of_order = unit / units.of_tile;
    const std::int32_t tile = p.order.tile_order[units.begin + of_order];
    const std::int32_t slot = (unit - of_order * units.of_tile) * units.slots;
    const TokenRows mine = find_arrival<BLOCK_M>(p, tile, slot, units.slots, is_own);
    if (__ballot_sync(kAllLanes, mine.source >= 0) == 0) continue;
    if (!is_own && call.world.is_remote != nullptr && !are_there(call, mine)) return false;
    const unsigned long long delivered = is_own ? 0 : book_pulls(call, mine);
    const unsigned long long begin = trace_begin(call.trace);
    copy(mine, [&] { write_row_weights(call, mine); });
    if (lane_id() == 0) {
      const TraceKind kind = is_own ? TraceKind::gather : TraceKind::pull;
      trace_end(call.trace, begin, kind, copy_worker(), tile);
    }
    if (!is_own) sleep_until(delivered);
    __syncwarp();
    signal_rows<BLOCK_M>(p, mine);
  }
}

/// What a math warp brings before it multiplies.
template <int BLOCK_M>
__device__ __forceinline__ void bring_before_products(const OverlapParams& p) {
  bring_tokens<BLOCK_M>(
      p, {.is_own = true, .is_first = true},
      [&](const TokenRows& mine, auto meanwhile) { copy_tokens(p.call, mine, meanwhile); });
}

/// What warp `warp` of the kCopyWarps of a block brings beside products: the first only pulls, the
/// others gather own tokens and may pull. Where the link is fast all warps of a block that pulls
/// bring the first tiles' rows, for which products wait, before others; where it is slow, what they
/// would wait for would only hold up own tokens. Buffers are a Puller's.
template <int BLOCK_M>
__device__ __forceinline__ void bring_beside_products(const OverlapParams& p, int warp,
                                                      std::uint32_t buffers,
                                                      std::int32_t buffer_bytes,
                                                      std::uint32_t barriers) {
  const DeviceWorld& world = p.call.world;
  const bool is_fast = !world.host_link && world.is_remote == nullptr && *world.ns_per_byte <= 0;
  const bool gathers = warp != 0;
  const bool in_puller = static_cast<std::int32_t>(blockIdx.x) < p.order.roles->pullers;
  const bool pulls = in_puller && warp < p.choice.pull_warps;
  Puller puller(p.call, buffers, buffer_bytes, barriers);
  fence_proxy_async_global();  // peers wrote x by ordinary stores
#pragma unroll 1
  for (int step = 0; step < 4; ++step) {
    // Fast: the first tiles' rows, then others; slow: own tokens, then others.
    const bool outer = (step & 2) == 0;
    const bool inner = (step & 1) == 0;
    const Errand errand{is_fast ? inner : outer, is_fast ? outer : inner};
    const bool takes_pulls = pulls || (in_puller && is_fast && errand.is_first);
    if (errand.is_own ? !gathers : !takes_pulls) continue;
    const auto copy = [&](const TokenRows& mine, auto meanwhile) {
      if (errand.is_own || world.host_link) {
        copy_tokens(p.call, mine, meanwhile);
      } else {
        puller.copy(mine, meanwhile);
      }
    };
    if (!bring_tokens<BLOCK_M>(p, errand, copy)) return;
  }
}

}  // namespace comet::cuda::overlap
