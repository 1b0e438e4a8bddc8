// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/host/driver.hpp"

#include <cuda_runtime_api.h>

#include "base/check.hpp"

namespace comet::cuda {

void* find_driver_function(const char* name, unsigned version) {
  void* symbol = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t status =
      cudaGetDriverEntryPointByVersion(name, &symbol, version, cudaEnableDefault, &found);
  check(status == cudaSuccess && found == cudaDriverEntryPointSuccess, ErrorCode::unsupported,
        "[cuda] no driver of CUDA {}.{} or later on this machine: {} is missing", version / 1000,
        version % 1000 / 10, name);
  return symbol;
}

void check_driver(CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return;
  using GetErrorString = decltype(&cuGetErrorString);
  const auto get_error_string =
      reinterpret_cast<GetErrorString>(find_driver_function("cuGetErrorString", 6000));
  const char* words = nullptr;
  get_error_string(result, &words);
  fail(ErrorCode::internal, "[cuda] {}: {} (error {})", what, words != nullptr ? words : "unknown",
       static_cast<int>(result));
}

}  // namespace comet::cuda
