// SPDX-License-Identifier: Apache-2.0
// The order in which the fused schedule works, made on the device from a plan with one group: tiles
// in phases, tokens as their tiles need them, partial sums as their tiles complete them. It decides
// when something is done and never what comes out.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "backend/cuda/host/cuda_error.hpp"
#include "backend/cuda/kernels/plan_kernels.hpp"
#include "layout/band_walk.hpp"

namespace comet::cuda {

/// A needed token with its rows [row_begin, row_begin + num_rows) of the plan's NeededRow list.
struct TokenRows {
  std::int32_t token;     ///< Index at its home rank.
  std::int16_t source;    ///< Home rank; -1: nothing here.
  std::int16_t num_rows;  ///< 1 to topk.
  std::int32_t row_begin;
  std::int32_t last_tile;  ///< The one of its tiles that comes last in the order.
};
static_assert(sizeof(TokenRows) == 16);

/// Work is taken by ticket. Own tokens are those whose home is this rank.
struct OverlapTickets {
  std::uint32_t gather_first;    ///< Row slots of the first tiles, for own tokens.
  std::uint32_t gather;          ///< Row slots of the tiles after them, likewise.
  std::uint32_t pull_first;      ///< Row slots of the first tiles, for tokens of other ranks.
  std::uint32_t pull;            ///< Row slots of the tiles after them, likewise.
  std::uint32_t compute;         ///< Items of both products.
  std::uint32_t push;            ///< Units of tokens and panels.
  std::uint32_t home;            ///< Units of own tokens and panels.
  std::uint32_t starved;         ///< No tickets: blocks whose products wait for rows.
  unsigned long long next_look;  ///< No tickets: when a warp may next read signals in host memory.
};

/// What is chosen for a call and indexes nothing that ranks share.
struct OverlapChoice {
  /// Ranges of the tile order, each of which goes through both products before the next.
  std::int32_t phases = 1;
  /// Waves that every expert's tiles are cut into before they are ordered by (wave, expert, tile):
  /// 1 is expert by expert; many follow the order of tokens.
  std::int32_t waves = 1;
  /// The device takes 1 in their place unless the link is slow, see OverlapCosts.
  bool has_waves_if_slow = false;
  /// Tiles that products begin with, by place: what they take up in the time that copies need for
  /// the next. Math warps, too, gather own rows of these before they multiply.
  std::int32_t first_tiles = 0;
  /// What a ticket covers: row slots of a tile, at most 32; tokens of other or own ranks, at most
  /// 32; own tokens, a divisor of a block's.
  std::int32_t slots_per_pull = 1;
  std::int32_t slots_per_first_pull = 1;  ///< Of the first tiles, in place of slots_per_pull.
  std::int32_t tokens_per_push = 1;
  /// Of the last panel of the last phase, in place of tokens_per_push: nothing is left to hide it.
  std::int32_t tokens_per_last_push = 1;
  std::int32_t tokens_per_home = 1;
  /// Of a block's three warps for copies those that pull until no pull is left, before they push;
  /// of the first tiles all do where the link is fast.
  std::int32_t pull_warps = 1;
  /// Multiprocessors that pull, and that push and sum; -1 chooses by the call's counts.
  std::int32_t n_c_dispatch = -1;
  std::int32_t n_c_combine = -1;
  /// They do nothing else meanwhile.
  bool is_dedicated = false;
  /// n_c were chosen for uniform routing, and dedicated blocks are as many more or fewer as the
  /// call's counts differ from that; else a number that is given stays.
  bool follows_counts = false;
  /// Blocks compute by twos, which load weights together; of an even number of them.
  bool in_pairs = false;
};

/// What a call's multiprocessors do besides products, in device memory: a graph replays with
/// others.
struct OverlapRoles {
  std::int32_t pullers;  ///< Blocks [0, pullers) pull.
  std::int32_t pushers;  ///< Blocks [0, pushers) push and sum.
};

/// Raw device pointers.
struct OverlapOrderView {
  std::int32_t* tile_order;       ///< [tiles] place -> tile
  std::int32_t* tile_place;       ///< [tiles] tile -> place
  TokenRows* arrivals;            ///< [row slots] the token that this row slot is the first to need
  TokenRows* sent;                ///< [phases, needed] tokens of other ranks, by the phase that
                                  ///< completes them; of one phase in the plan's order
  TokenRows* own;                 ///< [phases, max_tokens] own tokens likewise
  std::int32_t* num_sent;         ///< [phases]
  std::int32_t* num_own;          ///< [phases]
  std::int32_t* block_needed;     ///< [world, home blocks] tokens needed of each block
  std::uint32_t* arrived;         ///< [tiles] rows that are there
  std::uint32_t* first_done;      ///< [tiles] column tiles of the first product that are done
  std::uint32_t* second_done;     ///< [tiles, panels] those of the second
  std::uint32_t* pushed;          ///< [world, home blocks, panels] tokens whose partials are put
  unsigned long long* delivered;  ///< [world, home blocks, panels] when the paced link has brought
                                  ///< them all, ns
  std::uint32_t* seen;  ///< [panels, home blocks] not 0: a warp has seen all partials of an
                        ///< own block there; only where signals lie in host memory
  OverlapTickets* tickets;
  OverlapRoles* roles;
  std::int64_t sent_stride;  ///< Of `sent`.
  std::int64_t own_stride;   ///< Of `own`.
  std::int32_t home_blocks;  ///< Of max_tokens.
};

/// Owns the memory of an order; sized once.
class OverlapOrder {
 public:
  /// For plans within `limits`, at most `phases` phases and panels no narrower than `panel_n`.
  OverlapOrder(const PlanLimits& limits, std::int64_t row_slots, std::int32_t phases,
               std::int64_t max_panels);

  const OverlapOrderView& view() const noexcept { return view_; }
  std::int64_t bytes() const noexcept;

 private:
  DeviceBuffer<TokenRows> tokens_;
  DeviceBuffer<std::int32_t> words_;
  DeviceBuffer<unsigned long long> delivered_;
  DeviceBuffer<OverlapTickets> tickets_;
  DeviceBuffer<OverlapRoles> roles_;
  OverlapOrderView view_{};
};

/// What the choices of roles and waves weigh: the work of a row in both products, its bytes, and
/// what one takes on the link.
struct OverlapCosts {
  double operations_per_row = 0;
  double bytes_per_token = 0;
  /// See UniformCounts.
  double uniform_pulls_per_row = 0;
  double uniform_pushes_per_row = 0;
  /// DeviceWorld::ns_per_byte, 0 being a link that nobody paces, which is taken to be fast; null
  /// where the link is slow, nobody knows how slow.
  const float* ns_per_byte = nullptr;
};

/// What an order is made of beside a plan.
struct OrderProblem {
  OverlapOrderView order = {};
  OverlapChoice choice;
  OverlapCosts costs;
  std::int32_t num_panels = 0;  ///< Of the call; 0: no order is wanted.
  std::int32_t num_blocks = 0;  ///< Of the fused kernel.

  /// Whether the plan's kernels make it: with one wave, tiles come as the plan has them.
  COMET_HOST_DEVICE bool comes_with_plan() const { return num_panels > 0 && choice.waves == 1; }
};

/// Queues two kernels, after those of the plan: tiles, roles and zeroed counters, then tokens.
void launch_order_overlap(const PlanProblem& problem, const DevicePlanView& plan,
                          const OrderProblem& wanted, cudaStream_t stream);

}  // namespace comet::cuda
