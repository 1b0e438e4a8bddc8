// SPDX-License-Identifier: Apache-2.0
// Memory that a test writes and a kernel reads, or the other way round.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstring>

#include "backend/cuda/host/cuda_error.hpp"

namespace comet::cuda {

/// Zeroed memory that the host and kernels share.
template <typename T>
class Managed {
 public:
  explicit Managed(std::size_t count) : bytes_(count * sizeof(T)) {
    check_cuda(cudaMallocManaged(&data_, bytes_), "allocating managed memory");
    std::memset(data_, 0, bytes_);
  }
  ~Managed() { cudaFree(data_); }
  Managed(const Managed&) = delete;
  Managed& operator=(const Managed&) = delete;
  T* data() const { return static_cast<T*>(data_); }
  std::size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_;
};

}  // namespace comet::cuda
