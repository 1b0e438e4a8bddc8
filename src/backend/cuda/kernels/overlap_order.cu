// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/kernels/overlap_order.hpp"

#include <algorithm>

#include "backend/cuda/host/preload.hpp"
#include "backend/cuda/kernels/call_kernels.hpp"
#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/overlap_order.cuh"
#include "base/int_math.hpp"
#include "layout/run_config.hpp"
#include "layout/token_blocks.hpp"

namespace comet::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocksPerSm = 4;

__device__ std::int32_t grid_thread() {
  return static_cast<std::int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
}

__device__ std::int32_t grid_threads() { return static_cast<std::int32_t>(gridDim.x * blockDim.x); }

// Of at least 64 rows each: tiles * waves fits, see wave_begin.
constexpr std::int64_t kMostTiles = INT32_MAX / 64;
static_assert(kMostTiles * kMaxWaves + kMaxWaves - 1 <= INT32_MAX);

// First tile of wave `wave` among the `tiles` of an expert.
__device__ std::int32_t wave_begin(std::int32_t tiles, std::int32_t waves, std::int32_t wave) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(tiles * wave + waves - 1) /
                                   static_cast<std::uint32_t>(waves));
}

__device__ std::int32_t tiles_of_expert(const PlanProblem& problem, const DevicePlanView& plan,
                                        std::int32_t expert) {
  return static_cast<std::int32_t>(ceil_div(plan.expert_rows[expert], problem.block_m));
}

// Place of a tile by (wave, expert, tile). A warp finds one, since it asks for the tiles of every
// expert.
__device__ std::int32_t place_of(const PlanProblem& problem, const DevicePlanView& plan,
                                 std::int32_t waves, std::int32_t expert, std::int32_t tile) {
  const std::int32_t own_tiles = tiles_of_expert(problem, plan, expert);
  const std::int32_t wave = tile * waves / own_tiles;
  std::int32_t before = 0;
  for (std::int32_t e = static_cast<std::int32_t>(threadIdx.x) % kWarp; e < problem.num_local;
       e += kWarp) {
    const std::int32_t tiles = tiles_of_expert(problem, plan, e);
    before += wave_begin(tiles, waves, e < expert ? wave + 1 : wave);
  }
  return tile - wave_begin(own_tiles, waves, wave) + __reduce_add_sync(kFullWarp, before);
}

// Waves bring partial sums earlier and have products read weights more often: where nobody has
// asked for them they are taken only if the link is what takes longest.
__device__ std::int32_t choose_waves(const DevicePlanCounters& counters,
                                     const OrderProblem& wanted) {
  const OverlapCosts& costs = wanted.costs;
  if (!wanted.choice.has_waves_if_slow || costs.ns_per_byte == nullptr) return wanted.choice.waves;
  const double link = 2e-9 * *costs.ns_per_byte * costs.bytes_per_token * counters.tokens_in;
  const double products = costs.operations_per_row * counters.num_rows;
  return link * kOperationsPerSecond * wanted.num_blocks > products ? wanted.choice.waves : 1;
}

__global__ void __launch_bounds__(kThreads, kBlocksPerSm)
    order_tiles_kernel(const PlanProblem problem, const DevicePlanView plan,
                       const __grid_constant__ OrderProblem wanted) {
  wait_for_kernels_before();
  let_next_kernel_start();
  const OverlapOrderView& order = wanted.order;
  const std::int32_t num_tiles = plan.counters->num_tiles;
  for (std::int32_t tile = grid_thread() / kWarp; tile < num_tiles;
       tile += grid_threads() / kWarp) {
    const std::int32_t expert = plan.tiles[tile].expert;
    // Of warps with a tile only: the link's rate may lie in another GPU's memory.
    const std::int32_t waves = choose_waves(*plan.counters, wanted);
    const std::int32_t place =
        waves == 1 ? tile
                   : place_of(problem, plan, waves, expert, tile - plan.segment_tile[expert]);
    if (threadIdx.x % kWarp != 0) continue;
    order.tile_order[place] = tile;
    order.tile_place[tile] = place;
  }
  clear_counts(plan, wanted, grid_thread(), grid_threads());
  if (blockIdx.x == 0) clear_lists<kThreads>(wanted);
}

// One token's rows: whose tile comes first and last.
struct Extremes {
  std::int32_t first_row = -1;  // row slot
  std::int32_t first_place = INT32_MAX;
  std::int32_t last_place = -1;
};

__device__ Extremes find_extremes(const PlanProblem& problem, const DevicePlanView& plan,
                                  const OverlapOrderView& order, std::int32_t begin,
                                  std::int32_t end) {
  Extremes found;
  for (std::int32_t r = begin; r < end; ++r) {
    const std::int32_t row = plan.rows[r].row;
    const std::int32_t place = order.tile_place[row / problem.block_m];
    if (place < found.first_place) {
      found.first_place = place;
      found.first_row = row;
    }
    if (place > found.last_place) found.last_place = place;
  }
  return found;
}

// A warp per half of a (source, block of 64).
__global__ void __launch_bounds__(kThreads, kBlocksPerSm)
    order_tokens_kernel(const PlanProblem problem, const DevicePlanView plan,
                        const __grid_constant__ OrderProblem wanted) {
  wait_for_kernels_before();
  let_next_kernel_start();
  const OverlapOrderView& order = wanted.order;
  const std::int32_t num_panels = wanted.num_panels;
  const std::int32_t num_blocks = plan.counters->num_blocks;
  constexpr std::int32_t kParts = kTokenBlock / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (std::int32_t i = grid_thread() / kWarp; i < num_blocks * kParts;
       i += grid_threads() / kWarp) {
    const BlockTransfer block = plan.blocks[i / kParts];
    const std::int64_t cell = std::int64_t{block.source} * order.home_blocks + block.block;
    if (i % kParts == 0) {
      if (lane == 0) order.block_needed[cell] = block.needed_end - block.needed_begin;
      for (std::int32_t panel = lane; panel < num_panels; panel += kWarp) {
        order.pushed[cell * num_panels + panel] = 0;
        order.delivered[cell * num_panels + panel] = 0;
      }
    }
    const std::int32_t n = block.needed_begin + i % kParts * kWarp + lane;
    const unsigned lanes = __ballot_sync(kFullWarp, n < block.needed_end);
    if (n < block.needed_end) {
      const NeededToken needed = plan.needed[n];
      const std::int32_t end = plan.needed[n + 1].row_begin;
      const Extremes found = find_extremes(problem, plan, order, needed.row_begin, end);
      const TokenRows token{needed.token, static_cast<std::int16_t>(block.source),
                            static_cast<std::int16_t>(end - needed.row_begin), needed.row_begin,
                            order.tile_order[found.last_place]};
      for (std::int32_t r = needed.row_begin; r < end; ++r) {
        const std::int32_t row = plan.rows[r].row;
        TokenRows arrival = token;
        if (row != found.first_row) arrival.source = -1;
        order.arrivals[row] = arrival;
      }
      append(lanes, plan, wanted, found.last_place, n, token, block.source == problem.rank);
    }
  }
}

}  // namespace

OverlapOrder::OverlapOrder(const PlanLimits& limits, std::int64_t row_slots, std::int32_t phases,
                           std::int64_t max_panels) {
  const PlanCapacity capacity = plan_capacity(limits);
  const std::int64_t tiles = std::max<std::int64_t>(ceil_div(row_slots, limits.block_m), 1);
  const std::int64_t cells = std::max<std::int64_t>(capacity.blocks, 1);
  const std::int64_t needed = std::max<std::int64_t>(capacity.needed, 1);
  const std::int64_t own = std::max<std::int64_t>(limits.max_tokens, 1);
  tokens_ = DeviceBuffer<TokenRows>(std::max<std::int64_t>(row_slots, 1) + phases * (needed + own));
  view_.arrivals = tokens_.data();
  view_.sent = view_.arrivals + std::max<std::int64_t>(row_slots, 1);
  view_.own = view_.sent + phases * needed;
  view_.sent_stride = needed;
  view_.own_stride = own;
  view_.home_blocks = static_cast<std::int32_t>(capacity.home_blocks);
  words_ = DeviceBuffer<std::int32_t>(4 * tiles + 2 * phases + cells +
                                      (tiles + cells + capacity.home_blocks) * max_panels);
  std::int32_t* next = words_.data();
  const auto take = [&](std::int64_t count) {
    std::int32_t* first = next;
    next += count;
    return first;
  };
  const auto take_counters = [&](std::int64_t count) {
    return reinterpret_cast<std::uint32_t*>(take(count));
  };
  view_.tile_order = take(tiles);
  view_.tile_place = take(tiles);
  view_.num_sent = take(phases);
  view_.num_own = take(phases);
  view_.block_needed = take(cells);
  view_.arrived = take_counters(tiles);
  view_.first_done = take_counters(tiles);
  view_.second_done = take_counters(tiles * max_panels);
  view_.pushed = take_counters(cells * max_panels);
  view_.seen = take_counters(capacity.home_blocks * max_panels);
  delivered_ = DeviceBuffer<unsigned long long>(cells * max_panels);
  view_.delivered = delivered_.data();
  tickets_ = DeviceBuffer<OverlapTickets>(1);
  view_.tickets = tickets_.data();
  roles_ = DeviceBuffer<OverlapRoles>(1);
  view_.roles = roles_.data();
}

std::int64_t OverlapOrder::bytes() const noexcept {
  return static_cast<std::int64_t>(tokens_.bytes() + words_.bytes() + delivered_.bytes() +
                                   tickets_.bytes() + roles_.bytes());
}

void launch_order_overlap(const PlanProblem& problem, const DevicePlanView& plan,
                          const OrderProblem& wanted, cudaStream_t stream) {
  const auto grid = static_cast<unsigned>(wanted.num_blocks * kBlocksPerSm);
  launch_kernel(order_tiles_kernel, grid, kThreads, 0, stream, Follow::closely,
                "launching the order of tiles", problem, plan, wanted);
  launch_kernel(order_tokens_kernel, grid, kThreads, 0, stream, Follow::closely,
                "launching the order of tokens", problem, plan, wanted);
}

void preload_order_kernels() {
  preload(order_tiles_kernel);
  preload(order_tokens_kernel);
}

}  // namespace comet::cuda
