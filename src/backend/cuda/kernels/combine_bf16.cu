// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/kernels/combine.cuh"

namespace comet::cuda {

void launch_combine_bf16(const CallParams& params, std::int32_t group, int num_blocks,
                         Follow follow, cudaStream_t stream) {
  combine::launch<__nv_bfloat16>(params, group, num_blocks, follow, stream);
}

void preload_combine_bf16() { preload(combine::combine_kernel<__nv_bfloat16>); }

}  // namespace comet::cuda
