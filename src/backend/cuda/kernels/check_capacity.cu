// SPDX-License-Identifier: Apache-2.0
// Whether every EP rank has room for its rows: all ranks count alike, so all skip a call alike.
#include "backend/cuda/device/memory_order.cuh"
#include "backend/cuda/host/preload.hpp"
#include "backend/cuda/kernels/call_kernels.hpp"
#include "backend/cuda/kernels/launch.cuh"
#include "comet/error.hpp"
#include "layout/token_blocks.hpp"

namespace comet::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kBlocks = 32;

// Rows of each (group, expert), over all ranks. Sums of integers: their order makes no difference.
// All indices fit 32 bits, see plan_capacity.
__device__ __forceinline__ void count_rows(const CallParams& p, const CapacityCheck& check) {
  const auto topk = static_cast<std::uint32_t>(p.dims.topk);
  const auto groups = static_cast<std::uint32_t>(p.config.groups);
  for (std::int32_t source = 0; source < p.world.size; ++source) {
    const auto tokens = static_cast<std::uint32_t>(p.tokens[source]);
    const auto blocks = static_cast<std::uint32_t>(num_token_blocks(tokens));
    const std::uint16_t* ids = p.ids + source * p.ids_stride;
    for (std::uint32_t i = blockIdx.x * kThreads + threadIdx.x; i < tokens * topk;
         i += kBlocks * kThreads) {
      if (ids[i] == kDroppedId) continue;
      const std::uint32_t block = i / (topk * static_cast<std::uint32_t>(kTokenBlock));
      const std::uint32_t group = ((block + 1) * groups - 1) / blocks;
      atomicAdd(check.counts + std::int64_t{group} * p.dims.num_experts + ids[i], 1U);
    }
  }
}

__global__ void __launch_bounds__(kThreads, 1)
    check_capacity_kernel(const __grid_constant__ CallParams p,
                          const __grid_constant__ CapacityCheck check) {
  CallState& state = *p.state;
  count_rows(p, check);
  if (!is_last_block(&state.done_blocks)) return;
  const std::int32_t ep = p.dims.world / p.dims.tp;
  for (std::int32_t r = static_cast<std::int32_t>(threadIdx.x); r < ep; r += kThreads) {
    check.totals[r] = 0;
  }
  __syncthreads();
  const auto block_m = static_cast<std::uint32_t>(p.dims.block_m);
  for (std::int32_t group = 0; group < p.config.groups; ++group) {
    std::uint32_t* counts = check.counts + std::int64_t{group} * p.dims.num_experts;
    for (std::int32_t e = static_cast<std::int32_t>(threadIdx.x); e < p.dims.num_experts;
         e += kThreads) {
      const std::uint32_t tiles = (__ldcg(counts + e) + block_m - 1) / block_m;
      counts[e] = 0;  // for the next call
      atomicAdd(check.totals + check.ep_rank_of[e],
                static_cast<unsigned long long>(tiles) * block_m);
    }
  }
  __shared__ bool is_skipped;
  __syncthreads();
  if (threadIdx.x == 0) {
    is_skipped = false;
    for (std::int32_t r = 0; r < ep && !is_skipped; ++r) {
      const auto needed = static_cast<std::int64_t>(__ldcg(check.totals + r));
      is_skipped = needed > check.max_rows;
      if (!is_skipped) continue;
      state.fault = {CallFaultKind::capacity,
                     1 + static_cast<std::int32_t>(ErrorCode::capacity),
                     r,
                     {InputFaultKind::none, needed, 0}};
    }
  }
  __syncthreads();
  if (!is_skipped) return;
  for (std::int32_t r = static_cast<std::int32_t>(threadIdx.x); r < p.world.size; r += kThreads) {
    p.tokens[r] = 0;
  }
}

}  // namespace

void launch_check_capacity(const CallParams& params, const CapacityCheck& check,
                           cudaStream_t stream) {
  launch_after_all(check_capacity_kernel, kBlocks, kThreads, 0, stream,
                   "launching the check of capacity", params, check);
}

void preload_check_capacity() { preload(check_capacity_kernel); }

}  // namespace comet::cuda
