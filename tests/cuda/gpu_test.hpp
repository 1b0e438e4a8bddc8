// SPDX-License-Identifier: Apache-2.0
// What tests that need a GPU share.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "backend/cuda/host/cuda_error.hpp"
#include "comm/device_ranks.hpp"

namespace comet::cuda {

// Not by CUDA's own call: list_gpus asks for hardware queues before CUDA starts.
inline bool has_gpu() { return !list_gpus().empty(); }

/// Skips a test where there is no GPU.
#define COMET_NEEDS_GPU() \
  if (!has_gpu()) GTEST_SKIP() << "no GPU on this machine"

template <typename T>
DeviceBuffer<T> to_device(const std::vector<T>& values) {
  DeviceBuffer<T> buffer(static_cast<std::int64_t>(values.size()));
  buffer.copy_from(values.data());
  return buffer;
}

template <typename T>
std::vector<T> to_host(const DeviceBuffer<T>& buffer) {
  std::vector<T> values(static_cast<std::size_t>(buffer.count()));
  buffer.copy_to(values.data());
  return values;
}

/// `count` elements of device memory.
template <typename T>
std::vector<T> download(const T* from, std::size_t count) {
  std::vector<T> to(count);
  if (count > 0) {
    check_cuda(cudaMemcpy(to.data(), from, count * sizeof(T), cudaMemcpyDeviceToHost),
               "copying from the device");
  }
  return to;
}

inline int num_multiprocessors() {
  int device = 0;
  int count = 0;
  check_cuda(cudaGetDevice(&device), "finding the current device");
  check_cuda(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device),
             "counting multiprocessors");
  return count;
}

}  // namespace comet::cuda
