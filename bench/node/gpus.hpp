// SPDX-License-Identifier: Apache-2.0
// The GPUs of one machine, with what the measurements need on each.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/cuda/host/cuda_error.hpp"
#include "pattern_kernels.hpp"
#include "signal_kernels.hpp"

namespace comet::node {

struct CudaDelete {
  void operator()(CUstream_st* stream) const noexcept { cudaStreamDestroy(stream); }
  void operator()(CUevent_st* event) const noexcept { cudaEventDestroy(event); }
  void operator()(std::uint32_t* pinned) const noexcept { cudaFreeHost(pinned); }
};

class Gpu {
 public:
  /// Device `index` becomes current; it sends the pattern of GPU `index`.
  explicit Gpu(int index);

  void make_current() const;
  cudaStream_t stream() const noexcept { return stream_.get(); }
  std::uint32_t* word(int role) const noexcept { return words_.data() + role * kWordStride; }

  const int index;
  cuda::DeviceBuffer<std::byte> from;             ///< [kBufferBytes], the pattern.
  cuda::DeviceBuffer<std::byte> to;               ///< [kBufferBytes]
  cuda::DeviceBuffer<WrongWords> wrong;           ///< [1]
  cuda::DeviceBuffer<PingPongResult> ping_pongs;  ///< [2], by role.
  std::unique_ptr<CUevent_st, CudaDelete> begin;
  std::unique_ptr<CUevent_st, CudaDelete> end;

 private:
  static constexpr int kWordStride = 32;  // 128 bytes: a cache line each

  cuda::DeviceBuffer<std::uint32_t> words_;  // [2, kWordStride], zeros at first
  std::unique_ptr<CUstream_st, CudaDelete> stream_;
};

class Gpus {
 public:
  /// The first `count` GPUs of the machine, or all if it is 0. Throws Error(unsupported) if there
  /// are fewer, if one is no Hopper, or cannot reach another's memory.
  explicit Gpus(int count);

  /// Waits for what runs, since freeing must not.
  ~Gpus();
  Gpus(const Gpus&) = delete;
  Gpus& operator=(const Gpus&) = delete;

  int size() const noexcept { return static_cast<int>(gpus_.size()); }
  int multiprocessors() const noexcept { return multiprocessors_; }
  const std::string& name() const noexcept { return name_; }
  const Gpu& operator[](int index) const { return *gpus_[static_cast<std::size_t>(index)]; }

  /// A gate for one timed run: each stream is held by hold(), all go on at open_gate().
  void close_gate() noexcept { ++gate_value_; }
  void hold(const Gpu& gpu) const;
  void open_gate() const noexcept;

 private:
  std::string name_;         // of the first GPU
  int multiprocessors_ = 0;  // of the GPU that has fewest
  std::unique_ptr<std::uint32_t, CudaDelete> gate_;
  std::uint32_t gate_value_ = 0;
  std::vector<std::unique_ptr<Gpu>> gpus_;
};

}  // namespace comet::node
