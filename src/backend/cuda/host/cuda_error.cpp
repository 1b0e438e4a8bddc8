// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/host/cuda_error.hpp"

#include "base/check.hpp"

namespace comet::cuda {

void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  fail(ErrorCode::internal, "[cuda] {}: {} ({})", what, cudaGetErrorString(status),
       cudaGetErrorName(status));
}

}  // namespace comet::cuda
