// SPDX-License-Identifier: Apache-2.0
// The host's side of the plan on the device: sizes and memory. Apart from the kernels, since nvcc
// cannot check format strings.
#include "backend/cuda/kernels/plan_kernels.hpp"
#include "base/check.hpp"

namespace comet::cuda {
namespace {

// Hands out `count` words of one allocation.
std::int32_t* take(std::int32_t*& words, std::int64_t count) {
  std::int32_t* taken = words;
  words += count;
  return taken;
}

}  // namespace

PlanCapacity plan_capacity(const PlanLimits& limits) {
  check(limits.world >= 1 && limits.world <= kMaxPlanRanks && limits.tp >= 1 &&
            limits.world % limits.tp == 0 && limits.max_tokens >= 0 && limits.topk >= 1 &&
            limits.topk <= kMaxTopk && limits.block_m >= 1 && limits.groups >= 1,
        ErrorCode::invalid_argument,
        "[plan] limits: {} ranks, tp {}, {} tokens, topk {}, tiles of {} rows, {} groups: allowed "
        "are 1 to {} ranks, a tp that divides them, topk 1 to {}, and positive sizes",
        limits.world, limits.tp, limits.max_tokens, limits.topk, limits.block_m, limits.groups,
        kMaxPlanRanks, kMaxTopk);
  check(limits.num_local >= 0 && limits.num_local <= kMaxPlanExperts, ErrorCode::invalid_argument,
        "[plan] local experts: {}, allowed 0 to {} on a GPU", limits.num_local, kMaxPlanExperts);
  const std::int64_t max_tokens = limits.max_tokens;
  PlanCapacity capacity{};
  capacity.home_blocks = num_token_blocks(max_tokens);
  capacity.blocks = limits.world * capacity.home_blocks;
  capacity.needed = limits.world * max_tokens;
  capacity.rows = capacity.needed * limits.topk;
  capacity.segments = std::int64_t{limits.groups} * limits.num_local;
  capacity.tiles = capacity.rows / limits.block_m + min_of(capacity.segments, capacity.rows);
  capacity.block_tiles = capacity.tiles + min_of(capacity.blocks * limits.num_local, capacity.rows);
  capacity.token_sources = max_tokens * min_of(limits.topk, limits.world / limits.tp) * limits.tp;
  capacity.block_sources = capacity.home_blocks * limits.world;
  const std::int64_t most = max_of(max_of(capacity.tiles * limits.block_m, capacity.block_tiles),
                                   max_of(capacity.segments, capacity.token_sources));
  check(most <= INT32_MAX, ErrorCode::capacity,
        "[plan] {} entries or row slots in the worst case, at most 2^31 - 1", most);
  return capacity;
}

PlanCapacity check_plan_fits(const DevicePlanProblem& device_problem, const PlanLimits& limits) {
  const PlanProblem& problem = device_problem.problem;
  check(problem.world == limits.world && problem.tp == limits.tp &&
            device_problem.max_tokens <= limits.max_tokens && problem.topk <= limits.topk &&
            problem.num_local <= limits.num_local && problem.block_m >= limits.block_m &&
            problem.groups <= limits.groups,
        ErrorCode::capacity,
        "[plan] {} tokens, topk {}, {} local experts, tiles of {} rows, {} groups: the plan's "
        "memory is for {}, {}, {}, {} and {}",
        device_problem.max_tokens, problem.topk, problem.num_local, problem.block_m, problem.groups,
        limits.max_tokens, limits.topk, limits.num_local, limits.block_m, limits.groups);
  return plan_capacity({problem.world, problem.tp, device_problem.max_tokens, problem.topk,
                        problem.num_local, problem.block_m, problem.groups});
}

DevicePlan::DevicePlan(const PlanLimits& limits) {
  const PlanCapacity capacity = plan_capacity(limits);
  tiles_ = DeviceBuffer<Tile>(capacity.tiles);
  needed_ = DeviceBuffer<NeededToken>(capacity.needed + 1);
  rows_ = DeviceBuffer<NeededRow>(capacity.rows);
  blocks_ = DeviceBuffer<BlockTransfer>(capacity.blocks);
  counters_ = DeviceBuffer<DevicePlanCounters>(1);
  counted_ = DeviceBuffer<CountedBlock>(capacity.blocks);
  offsets_ = DeviceBuffer<BlockOffsets>(capacity.blocks);
  home_ = DeviceBuffer<HomeCounts>(2 * capacity.home_blocks);
  const std::int64_t cells = capacity.blocks * limits.num_local;
  const std::int64_t num_borders = std::int64_t{limits.groups} + 1;
  const std::int64_t token_borders = std::int64_t{limits.max_tokens} + 1;
  const std::int64_t block_borders = capacity.home_blocks + 1;
  words_ = DeviceBuffer<std::int32_t>(2 * num_borders + capacity.tiles + capacity.block_tiles +
                                      token_borders + capacity.token_sources + block_borders +
                                      capacity.block_sources + 2 * capacity.segments + 2 * cells +
                                      2 * capacity.blocks);
  std::int32_t* words = words_.data();
  view_.tiles = tiles_.data();
  view_.needed = needed_.data();
  view_.rows = rows_.data();
  view_.blocks = blocks_.data();
  view_.counters = counters_.data();
  view_.counted = counted_.data();
  view_.offsets = offsets_.data();
  view_.home_counts = home_.data();
  view_.home_offsets = home_.data() + capacity.home_blocks;
  view_.group_tiles = take(words, num_borders);
  view_.walk = take(words, capacity.tiles);
  view_.group_blocks = take(words, num_borders);
  view_.block_tiles = take(words, capacity.block_tiles);
  view_.token_sources_begin = take(words, token_borders);
  view_.token_sources = take(words, capacity.token_sources);
  view_.block_sources_begin = take(words, block_borders);
  view_.block_sources = take(words, capacity.block_sources);
  view_.expert_rows = take(words, capacity.segments);
  view_.segment_tile = take(words, capacity.segments);
  view_.block_rows = take(words, cells);
  view_.block_first = take(words, cells);
  view_.num_block_tiles = take(words, capacity.blocks);
  view_.num_block_done = take(words, capacity.blocks);
  view_.block_stride = capacity.blocks;
  view_.limits = limits;
}

void launch_build_plan(const DevicePlanProblem& problem, const DevicePlanView& view,
                       const OrderProblem& wanted, cudaStream_t stream) {
  const PlanCapacity capacity = check_plan_fits(problem, view.limits);
  if (!launch_small_plan(problem.problem, view, capacity, wanted, stream)) {
    launch_plan_count(problem.problem, view, capacity, stream);
    launch_plan_segments(problem.problem, view, capacity, stream);
    launch_plan_layout(problem.problem, view, wanted, stream);
    launch_plan_place(problem.problem, view, capacity, wanted, stream);
  }
}

}  // namespace comet::cuda
