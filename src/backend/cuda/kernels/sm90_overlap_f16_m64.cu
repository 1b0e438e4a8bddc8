// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/kernels/sm90_overlap.cuh"

namespace comet::cuda {

void launch_overlap_f16_m64(const OverlapParams& params, int num_blocks, Follow follow,
                            cudaStream_t stream) {
  overlap::launch_overlap<__half, 64>(params, num_blocks, follow, stream);
}

void preload_overlap_f16_m64() { preload(overlap::overlap_kernel<__half, 64>); }

}  // namespace comet::cuda
