// SPDX-License-Identifier: Apache-2.0
// The plan in device memory: what comet::Plan holds, made on the device from the ids and T of all
// ranks, with the host's bytes. A captured graph replays it with another routing and other T.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "backend/cuda/host/cuda_error.hpp"
#include "plan/plan.hpp"

namespace comet::cuda {

struct OrderProblem;

/// What bounds a plan, known before any call.
struct PlanLimits {
  std::int32_t world = 1;
  std::int32_t tp = 1;
  std::int32_t max_tokens = 0;  ///< Of each rank.
  std::int32_t topk = 1;
  std::int32_t num_local = 0;
  std::int32_t block_m = 1;
  std::int32_t groups = 1;
};

/// Largest possible numbers of entries, so that no routing within the limits can overflow.
struct PlanCapacity {
  std::int64_t home_blocks;    ///< ceil(max_tokens / 64)
  std::int64_t blocks;         ///< world * home_blocks
  std::int64_t needed;         ///< world * max_tokens, without the guard
  std::int64_t rows;           ///< world * max_tokens * topk: all choices may be local
  std::int64_t segments;       ///< groups * num_local
  std::int64_t tiles;          ///< rows / block_m + min(segments, rows): one tail per segment
  std::int64_t block_tiles;    ///< tiles + min(blocks * num_local, rows): a block shares at most
                               ///< its first tile of an expert with the block before it
  std::int64_t token_sources;  ///< max_tokens * min(topk, world / tp) * tp
  std::int64_t block_sources;  ///< home_blocks * world
};

/// Throws Error(invalid_argument) for limits that no plan can have, Error(capacity) if a number of
/// entries or row slots may exceed 2^31 - 1.
PlanCapacity plan_capacity(const PlanLimits& limits);

/// Local experts that the kernels' shared memory has room for.
inline constexpr std::int32_t kMaxPlanExperts = 8192;

/// Largest world; divisible by 32.
inline constexpr std::int32_t kMaxPlanRanks = 4096;

/// The input of one plan. All pointers are device memory, also those in `ids`.
struct DevicePlanProblem {
  PlanProblem problem;          ///< Every tokens[r] is in [0, max_tokens] when the kernels run.
  std::int32_t max_tokens = 0;  ///< Sizes the grids: the host need not know T.
};

/// Numbers of entries, written by the kernels.
struct DevicePlanCounters {
  std::int32_t num_tiles;
  std::int32_t num_rows;    ///< Also of `rows`.
  std::int32_t num_needed;  ///< Without the guard.
  std::int32_t num_blocks;
  std::int32_t num_block_tiles;
  std::int32_t num_token_sources;
  std::int32_t num_block_sources;
  std::int32_t tokens_in;
  std::int32_t tokens_out;
  std::int32_t num_all_blocks;  ///< Blocks of all sources, empty ones too.
};

/// One block of 64 tokens of a source, counted; kept in transfer order (group, step, block).
struct CountedBlock {
  std::int32_t group = 0;
  std::int32_t step = 0;
  std::int32_t block = 0;
  BlockCounts counts;
};

/// Where the entries of a CountedBlock begin.
struct BlockOffsets {
  std::int32_t entry;  ///< Index into `blocks`.
  std::int32_t needed;
  std::int32_t row;
  std::int32_t tile;  ///< Index into `block_tiles`.
  std::int32_t walk;
};

/// Sources of the own tokens of one own block, or where their entries begin.
struct HomeCounts {
  std::int32_t token_sources;
  std::int32_t block_sources;
  std::int32_t tokens_out;
};

/// Raw device pointers; fields that Plan has too hold the same.
struct DevicePlanView {
  Tile* tiles;
  std::int32_t* group_tiles;
  std::int32_t* walk;
  NeededToken* needed;
  NeededRow* rows;
  BlockTransfer* blocks;
  std::int32_t* group_blocks;
  std::int32_t* block_tiles;
  std::int32_t* token_sources_begin;
  std::int32_t* token_sources;
  std::int32_t* block_sources_begin;
  std::int32_t* block_sources;
  std::int32_t* expert_rows;
  DevicePlanCounters* counters;

  // Scratch of the kernels.
  CountedBlock* counted;          ///< [blocks]
  BlockOffsets* offsets;          ///< [blocks]
  HomeCounts* home_counts;        ///< [home_blocks]
  HomeCounts* home_offsets;       ///< [home_blocks]
  std::int32_t* block_rows;       ///< [num_local, block_stride] rows of each expert and block
  std::int32_t* block_first;      ///< [num_local, block_stride] their first row in the segment
  std::int32_t* num_block_tiles;  ///< [blocks] tiles that hold a block's rows
  std::int32_t* num_block_done;   ///< [blocks] those of them that the block completes
  std::int32_t* segment_tile;     ///< [segments] first tile
  std::int64_t block_stride;
  PlanLimits limits;  ///< What the memory is for.
};

/// Capacity that the problem needs. Throws Error(capacity) if its sizes exceed `limits`.
PlanCapacity check_plan_fits(const DevicePlanProblem& problem, const PlanLimits& limits);

/// Owns the memory of a plan; sized once. The bytes are undefined before the first launch.
class DevicePlan {
 public:
  explicit DevicePlan(const PlanLimits& limits);

  const DevicePlanView& view() const noexcept { return view_; }

 private:
  DeviceBuffer<Tile> tiles_;
  DeviceBuffer<NeededToken> needed_;
  DeviceBuffer<NeededRow> rows_;
  DeviceBuffer<BlockTransfer> blocks_;
  DeviceBuffer<DevicePlanCounters> counters_;
  DeviceBuffer<CountedBlock> counted_;
  DeviceBuffer<BlockOffsets> offsets_;
  DeviceBuffer<HomeCounts> home_;
  DeviceBuffer<std::int32_t> words_;  ///< Everything that consists of single words.
  DevicePlanView view_{};
};

/// Queues the kernels that build the plan, one or four, and with it the order that is wanted if it
/// comes with plans; no allocation, no wait. Throws Error(capacity) if the problem's sizes exceed
/// the view's.
void launch_build_plan(const DevicePlanProblem& problem, const DevicePlanView& view,
                       const OrderProblem& wanted, cudaStream_t stream);

// The four kernels, a file each, in their order. Only integer sums, maxima and bit sets are formed
// by atomics, so no order decides a byte.
void launch_plan_count(const PlanProblem& problem, const DevicePlanView& view,
                       const PlanCapacity& capacity, cudaStream_t stream);
void launch_plan_segments(const PlanProblem& problem, const DevicePlanView& view,
                          const PlanCapacity& capacity, cudaStream_t stream);
void launch_plan_layout(const PlanProblem& problem, const DevicePlanView& view,
                        const OrderProblem& wanted, cudaStream_t stream);
void launch_plan_place(const PlanProblem& problem, const DevicePlanView& view,
                       const PlanCapacity& capacity, const OrderProblem& wanted,
                       cudaStream_t stream);

// All of them as one kernel. False, and nothing is queued, if the plan is too large for that.
bool launch_small_plan(const PlanProblem& problem, const DevicePlanView& view,
                       const PlanCapacity& capacity, const OrderProblem& wanted,
                       cudaStream_t stream);

}  // namespace comet::cuda
