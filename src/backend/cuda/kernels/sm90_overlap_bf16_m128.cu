// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/kernels/sm90_overlap.cuh"

namespace comet::cuda {

void launch_overlap_bf16_m128(const OverlapParams& params, int num_blocks, Follow follow,
                              cudaStream_t stream) {
  overlap::launch_overlap<__nv_bfloat16, 128>(params, num_blocks, follow, stream);
}

void preload_overlap_bf16_m128() { preload(overlap::overlap_kernel<__nv_bfloat16, 128>); }

}  // namespace comet::cuda
