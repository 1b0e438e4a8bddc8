// SPDX-License-Identifier: Apache-2.0
// Where choices of tokens lie: row slots, and the rows of a token in expert order.
#pragma once

#include "backend/cuda/kernels/plan_device.cuh"

namespace comet::cuda {

// Row slots of a block's choices in order, to `slots`, by one warp: 32 choices at a time, each
// behind those of its expert before it.
__device__ inline void assign_slots(std::int32_t num_choices, const std::int16_t* local,
                                    std::int32_t* next_row, std::int32_t* slots) {
  const std::int32_t lane = static_cast<std::int32_t>(threadIdx.x) % kWarp;
#pragma unroll 1
  for (std::int32_t first = 0; first < num_choices; first += kWarp) {
    const std::int32_t i = first + lane;
    const std::int32_t expert = i < num_choices ? local[i] : -1;
    const unsigned same = __match_any_sync(kFullWarp, expert);
    const std::int32_t before = __popc(same & ((1U << lane) - 1U));
    if (expert >= 0) slots[i] = next_row[expert] + before;
    __syncwarp();
    if (expert >= 0 && before == 0) next_row[expert] += __popc(same);
    __syncwarp();
  }
}

// A row of a token, that of its choice `choice` at row slot `slot`, among `rows`, the token's: by
// expert, equal ones by choice. `local` are its choices' local experts; not if it has none.
__device__ inline void place_choice(const PlanProblem& problem, const std::int16_t* local,
                                    std::int32_t choice, std::int32_t slot, NeededRow* rows) {
  const std::int32_t expert = local[choice];
  if (expert < 0) return;
  std::int32_t at = 0;
#pragma unroll 1
  for (std::int32_t k = 0; k < problem.topk; ++k) {
    const std::int32_t other = local[k];
    at += other >= 0 && (other < expert || (other == expert && k < choice)) ? 1 : 0;
  }
  rows[at] = {slot, choice};
}

}  // namespace comet::cuda
