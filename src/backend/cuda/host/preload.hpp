// SPDX-License-Identifier: Apache-2.0
// Loading kernels before any rank's kernel waits for another: CUDA loads a kernel at its first
// launch, which may wait for those that run.
#pragma once

#include "backend/cuda/host/cuda_error.hpp"

namespace comet::cuda {

/// Loads `kernel` on the current device. Throws Error(internal) if the device cannot run it.
template <typename... Args>
void preload(void (*kernel)(Args...)) {
  cudaFuncAttributes attributes;
  check_cuda(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel)),
             "loading a kernel");
}

}  // namespace comet::cuda
