// SPDX-License-Identifier: Apache-2.0
// CUDA's error codes as Error, and buffers that free themselves.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <utility>

namespace comet::cuda {

/// Throws Error(internal) "[cuda] <what>: <CUDA's words>" unless `status` is cudaSuccess.
void check_cuda(cudaError_t status, const char* what);

/// At least one byte of the current device's memory. Throws Error(capacity) if there is no more.
void* allocate_device(std::size_t bytes);

/// Device memory of `T`. Not freed while kernels run: cudaFree would wait for them, also for those
/// of other ranks (protocol rule 7), so owners keep it until all ranks have met.
template <typename T>
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  explicit DeviceBuffer(std::int64_t count) : count_(count) {
    if (count > 0) data_ = allocate_device(bytes());
  }
  ~DeviceBuffer() { cudaFree(data_); }
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), count_(std::exchange(other.count_, 0)) {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }

  T* data() const noexcept { return static_cast<T*>(data_); }
  std::int64_t count() const noexcept { return count_; }
  std::size_t bytes() const noexcept { return static_cast<std::size_t>(count_) * sizeof(T); }

  /// Waits for the copy; `from` and `to` hold count() elements.
  void copy_from(const T* from) {
    if (count_ == 0) return;
    check_cuda(cudaMemcpy(data_, from, bytes(), cudaMemcpyHostToDevice), "copying to the device");
    // From pageable memory it returns once it has read it; non-blocking streams don't wait for it.
    check_cuda(cudaStreamSynchronize(cudaStreamLegacy), "copying to the device");
  }
  void copy_to(T* to) const {
    if (count_ == 0) return;
    check_cuda(cudaMemcpy(to, data_, bytes(), cudaMemcpyDeviceToHost), "copying from the device");
  }

 private:
  void* data_ = nullptr;
  std::int64_t count_ = 0;
};

}  // namespace comet::cuda
