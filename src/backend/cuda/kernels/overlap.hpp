// SPDX-License-Identifier: Apache-2.0
// The fused schedule: dispatch, both products and combine in one persistent kernel.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "backend/cuda/kernels/call_kernels.hpp"
#include "backend/cuda/kernels/follow.hpp"
#include "backend/cuda/kernels/grouped_gemm.hpp"
#include "backend/cuda/kernels/overlap_order.hpp"

namespace comet::cuda {

/// What the fused kernel gets. Blocks [0, pullers) pull and blocks [0, pushers) push and sum, see
/// OverlapRoles, by extra warps beside their products; dedicated ones compute nothing meanwhile.
struct OverlapParams {
  CallParams call;
  GroupedGemmParams first = {};
  GroupedGemmParams second = {};
  OverlapOrderView order = {};
  OverlapChoice choice;
  std::int32_t num_panels = 1;
  bool is_gated = false;
};

/// One block on each of `num_blocks` multiprocessors. Blocks need not all be resident at once.
void launch_overlap_bf16_m128(const OverlapParams& params, int num_blocks, Follow follow,
                              cudaStream_t stream);
void launch_overlap_bf16_m64(const OverlapParams& params, int num_blocks, Follow follow,
                             cudaStream_t stream);
void launch_overlap_f16_m128(const OverlapParams& params, int num_blocks, Follow follow,
                             cudaStream_t stream);
void launch_overlap_f16_m64(const OverlapParams& params, int num_blocks, Follow follow,
                            cudaStream_t stream);

}  // namespace comet::cuda
