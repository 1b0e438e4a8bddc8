// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/kernels/sm90_product_chain.cuh"

namespace comet::cuda {

void launch_sm90_product_chain_plain(const ProductChain& chain, DType dtype, int num_blocks,
                                     Follow follow, cudaStream_t stream) {
  sm90::launch_product_chain<false>(chain, dtype, num_blocks, follow, stream);
}

}  // namespace comet::cuda
