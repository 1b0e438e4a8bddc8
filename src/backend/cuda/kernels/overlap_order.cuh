// SPDX-License-Identifier: Apache-2.0
// Steps of the fused schedule's order, for the kernels that make it: two of its own, or those of the plan.
#pragma once

#include "backend/cuda/device/block_scan.cuh"
#include "backend/cuda/kernels/overlap_order.hpp"

namespace comet::cuda {

constexpr double kOperationsPerSecond = 5e12;  // of a multiprocessor's products

// Part of the blocks by which, if they are dedicated, copies take as long as the others' products.
__device__ inline double share_of_copies(const OverlapCosts& costs, double rows, double tokens) {
  constexpr double kBytesPerSecond = 16e9;  // of a block's copies
  const double compute = costs.operations_per_row * rows / kOperationsPerSecond;
  const double copy = costs.bytes_per_token * tokens / kBytesPerSecond;
  return copy / (copy + compute + 1e-12);
}

// Dedicated blocks for `tokens` copies: `chosen`, if that is positive, made for `uniform` ones.
__device__ inline std::int32_t dedicate_blocks(const OverlapCosts& costs, std::int32_t chosen, double rows,
                                               double tokens, double uniform, std::int32_t num_blocks) {
  const double share = share_of_copies(costs, rows, tokens);
  if (chosen > 0) {
    const double usual = share_of_copies(costs, rows, uniform);
    const double wished = usual > 0 ? chosen * share / usual : chosen;
    return max(1, static_cast<std::int32_t>(rint(min(wished, double{INT32_MAX}))));
  }
  const auto wished = static_cast<std::int32_t>(ceil(num_blocks * share));
  return wished < 1 ? 1 : wished > num_blocks / 2 ? num_blocks / 2 + num_blocks % 2 : wished;
}

__device__ inline OverlapRoles choose_roles(const DevicePlanCounters& counters,
                                            const OrderProblem& wanted) {
  const OverlapChoice& choice = wanted.choice;
  const OverlapCosts& costs = wanted.costs;
  const std::int32_t num_blocks = wanted.num_blocks;
  OverlapRoles roles{num_blocks, num_blocks};
  if (choice.n_c_dispatch > 0) roles.pullers = choice.n_c_dispatch;
  if (choice.n_c_combine > 0) roles.pushers = choice.n_c_combine;
  const double rows = counters.num_rows;
  if (choice.is_dedicated && (choice.n_c_dispatch <= 0 || choice.follows_counts)) {
    roles.pullers = dedicate_blocks(costs, choice.n_c_dispatch, rows, counters.tokens_in,
                                    rows * costs.uniform_pulls_per_row, num_blocks);
  }
  if (choice.is_dedicated && (choice.n_c_combine <= 0 || choice.follows_counts)) {
    roles.pushers =
        dedicate_blocks(costs, choice.n_c_combine, rows, counters.num_needed + counters.tokens_out,
                        rows * costs.uniform_pushes_per_row, num_blocks);
  }
  const std::int32_t most = choice.is_dedicated && num_blocks > 1 ? num_blocks - 1 : num_blocks;
  return {min(roles.pullers, most), min(roles.pushers, most)};
}

// Before any token is added. By kThreads threads. Lengths of the lists of one phase are set, not
// counted, see clear_counts.
template <int kThreads>
__device__ inline void clear_lists(const OrderProblem& wanted) {
  if (wanted.choice.phases == 1) return;
#pragma unroll 1
  for (std::int32_t phase = threadIdx.x; phase < wanted.choice.phases; phase += kThreads) {
    wanted.order.num_sent[phase] = 0;
    wanted.order.num_own[phase] = 0;
  }
}

// Own tokens with rows here.
__device__ inline std::int32_t num_own_needed(const DevicePlanView& plan) {
  return plan.counters->num_needed - plan.counters->tokens_in;
}

// What the fused kernel counts of tiles and own blocks, its tickets and roles. By `num_threads` threads.
__device__ inline void clear_counts(const DevicePlanView& plan, const OrderProblem& wanted,
                                    std::int32_t thread, std::int32_t num_threads) {
  const OverlapOrderView& order = wanted.order;
  const std::int32_t num_tiles = plan.counters->num_tiles;
#pragma unroll 1
  for (std::int32_t i = thread; i < num_tiles; i += num_threads) {
    order.arrived[i] = 0;
    order.first_done[i] = 0;
  }
#pragma unroll 1
  for (std::int32_t i = thread; i < num_tiles * wanted.num_panels; i += num_threads) {
    order.second_done[i] = 0;
  }
#pragma unroll 1
  for (std::int32_t i = thread; i < order.home_blocks * wanted.num_panels; i += num_threads) {
    order.seen[i] = 0;
  }
  if (thread == 0) {
    *order.tickets = {};
    *order.roles = choose_roles(*plan.counters, wanted);
    if (wanted.choice.phases == 1) {  // see append
      *order.num_sent = plan.counters->tokens_in;
      *order.num_own = num_own_needed(plan);
    }
  }
}

// Tiles by index.
__device__ inline void place_tiles_by_index(const DevicePlanView& plan, const OrderProblem& wanted,
                                            std::int32_t thread, std::int32_t num_threads) {
  const std::int32_t num_tiles = plan.counters->num_tiles;
#pragma unroll 1
  for (std::int32_t i = thread; i < num_tiles; i += num_threads) {
    wanted.order.tile_order[i] = i;
    wanted.order.tile_place[i] = i;
  }
}

// Adds the lane's token, the plan's needed token `index`, to the list of its phase; `lanes` of a warp call it together
// and keep their order. Lists of one phase are in the order of needed tokens, own ones of which come first; of more they
// are in any.
__device__ inline void append(unsigned lanes, const DevicePlanView& plan,
                              const OrderProblem& wanted, std::int32_t place, std::int32_t index,
                              const TokenRows& token, bool is_own) {
  const OverlapOrderView& order = wanted.order;
  if (wanted.choice.phases == 1) {
    if (is_own) {
      order.own[index] = token;
    } else {
      order.sent[index - num_own_needed(plan)] = token;
    }
    return;
  }
  const std::int32_t phase =
      phase_of_place(plan.counters->num_tiles, wanted.choice.phases, place);
  std::int32_t* const counts = is_own ? order.num_own : order.num_sent;
  TokenRows* const list = is_own ? order.own + phase * order.own_stride
                                 : order.sent + phase * order.sent_stride;
  const unsigned same = __match_any_sync(lanes, phase);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int leader = __ffs(static_cast<int>(same)) - 1;
  std::int32_t first = 0;
  if (lane == leader) first = atomicAdd(counts + phase, __popc(same));
  first = __shfl_sync(same, first, leader);
  list[first + __popc(same & ((1U << lane) - 1U))] = token;
}

// Of a block of 64 tokens of a source, where tiles come by index: its counts, and thread i's token, the
// block's i-th and the plan's needed token `index`, with row slots `slots` of its topk choices and the
// local experts of those, -1 for others'. By all threads of a thread block; a token without rows has
// none.
template <int kThreads>
__device__ inline void order_block(const PlanProblem& problem, const DevicePlanView& plan,
                                   const OrderProblem& wanted, std::int32_t source,
                                   std::int32_t block, std::int32_t num_needed,
                                   std::int32_t index, TokenRows token,
                                   const std::int16_t* local, const std::int32_t* slots) {
  const OverlapOrderView& order = wanted.order;
  const std::int64_t cell = std::int64_t{source} * order.home_blocks + block;
  if (threadIdx.x == 0) order.block_needed[cell] = num_needed;
#pragma unroll 1
  for (std::int32_t panel = threadIdx.x; panel < wanted.num_panels; panel += kThreads) {
    order.pushed[cell * wanted.num_panels + panel] = 0;
    order.delivered[cell * wanted.num_panels + panel] = 0;
  }
  const unsigned lanes = __ballot_sync(kFullWarp, token.num_rows > 0);
  if (token.num_rows == 0) return;
  // Slots ascend with tiles, and an expert's with its choices.
  std::int32_t first = INT32_MAX;
  std::int32_t last = -1;
#pragma unroll 1
  for (std::int32_t k = 0; k < problem.topk; ++k) {
    if (local[k] < 0) continue;
    first = min(first, slots[k]);
    last = max(last, slots[k]);
  }
  token.last_tile = last / problem.block_m;
#pragma unroll 1
  for (std::int32_t k = 0; k < problem.topk; ++k) {
    if (local[k] < 0) continue;
    TokenRows arrival = token;
    if (slots[k] != first) arrival.source = -1;
    order.arrivals[slots[k]] = arrival;
  }
  append(lanes, plan, wanted, token.last_tile, index, token, source == problem.rank);
}

}  // namespace comet::cuda
