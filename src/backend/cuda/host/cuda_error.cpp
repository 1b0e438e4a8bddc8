// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/host/cuda_error.hpp"

#include <algorithm>

#include "base/check.hpp"

namespace comet::cuda {

void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // or the next launch, of a call that can go well, would report it
  fail(ErrorCode::internal, "[cuda] {}: {} ({})", what, cudaGetErrorString(status),
       cudaGetErrorName(status));
}

void* allocate_device(std::size_t bytes) {
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, std::max<std::size_t>(bytes, 1));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // or the next launch would report it
    int device = 0;
    cudaGetDevice(&device);
    fail(ErrorCode::capacity, "[cuda] out of device memory: GPU {} has no {} bytes left", device,
         bytes);
  }
  check_cuda(status, "allocating device memory");
  return memory;
}

}  // namespace comet::cuda
