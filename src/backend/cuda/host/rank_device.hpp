// SPDX-License-Identifier: Apache-2.0
// RankDevice: a rank's GPU, or its partition of one, as the CUDA backend sees it.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <string>
#include <vector>

#include "backend/cuda/host/partition.hpp"
#include "backend/cuda/kernels/device_puts.hpp"
#include "comm/device_ranks.hpp"

namespace comet::cuda {

/// Owns memory until the world goes.
class RankDevice final : public DeviceRank {
 public:
  /// `world` with the pointers that all ranks share; the rank's own are added. `puts`, if any,
  /// lives as long.
  RankDevice(int device, bool is_shared, std::unique_ptr<Partition> partition,
             const DeviceWorld& world, DevicePuts* puts = nullptr);
  ~RankDevice() override;

  const DeviceWorld& world() const noexcept override { return world_; }
  int device() const noexcept override { return device_; }
  int multiprocessors() const noexcept override { return partition_->multiprocessors(); }
  bool is_partition() const noexcept override { return is_shared_; }
  std::int64_t l2_bytes() const noexcept override { return l2_bytes_; }
  void* stream() const noexcept override { return partition_->stream(); }
  void* copy_stream() const noexcept override { return partition_->copy_stream(); }

  void make_current() override;
  void fork_from(void* stream) override;
  void join_to(void* stream) override;
  std::byte* allocate(std::int64_t bytes) override;
  std::byte* allocate_pinned(std::int64_t bytes) override;
  void upload(void* to, const void* from, std::int64_t bytes) override;
  void download(void* to, const void* from, std::int64_t bytes) override;
  std::string drain() override;
  void queue_start_line() override;
  std::unique_ptr<DeviceGraph> capture(const std::function<void()>& body) override;
  void reset(std::uint32_t epoch) override;
  std::uint32_t epoch() override;

  const Partition& partition() const noexcept { return *partition_; }
  /// Null if all ranks' memory is within reach.
  DevicePuts* puts() const noexcept { return puts_; }

  /// Orders a call that is queued on `stream` after the rank's last one, whatever its stream; no
  /// more than the caller does inside a capture. end_call is to be queued last.
  void begin_call(cudaStream_t stream);
  void end_call(cudaStream_t stream);
  /// The stream of the last call.
  cudaStream_t last_stream() const noexcept { return last_stream_; }

  /// Events without timing for forks and joins inside a call; made once, `index` counts from 0.
  cudaEvent_t event(std::size_t index);

 private:
  int device_;
  bool is_shared_;
  std::int64_t l2_bytes_ = 0;
  std::unique_ptr<Partition> partition_;
  DeviceWorld world_;
  DevicePuts* puts_;
  std::vector<void*> device_memory_;
  std::vector<void*> pinned_memory_;
  std::vector<cudaEvent_t> events_;
  cudaEvent_t call_ended_ = nullptr;
  cudaEvent_t forked_ = nullptr;
  cudaEvent_t joined_ = nullptr;
  cudaStream_t last_stream_ = nullptr;
};

/// What is queued on `to` from now on comes after all that is on `from`. `event` is of their GPU.
void order_streams(cudaStream_t from, cudaStream_t to, cudaEvent_t event);

/// Whether `stream` is being captured in a graph.
bool is_capturing(cudaStream_t stream);

}  // namespace comet::cuda
