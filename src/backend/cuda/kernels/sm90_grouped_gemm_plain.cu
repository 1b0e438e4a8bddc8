// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/kernels/sm90_grouped_gemm.cuh"

namespace comet::cuda {

void launch_sm90_grouped_gemm_plain(const GroupedGemmParams& params, DType dtype, GemmGrid grid,
                                    Follow follow, cudaStream_t stream) {
  sm90::launch_grouped_gemm<false>(params, dtype, grid, follow, stream);
}

}  // namespace comet::cuda
