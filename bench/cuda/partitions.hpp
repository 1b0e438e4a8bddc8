// SPDX-License-Identifier: Apache-2.0
// A GPU cut into partitions of multiprocessors (green contexts), each with a stream: what a rank
// has where many ranks share one GPU.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <functional>
#include <vector>

namespace comet::cuda {

/// Work for a partition or for the whole GPU: launches itself on so many blocks, one for each
/// multiprocessor, in a stream.
using Launch = std::function<void(int num_blocks, cudaStream_t stream)>;

/// Microseconds for one repetition of all works.
struct PartitionTimes {
  float whole_us;     ///< One after the other on the whole GPU.
  float together_us;  ///< Each on its own partition, started together; until the last one ends.
};

class Partitions {
 public:
  /// Of the current device, whose other multiprocessors stay unused. Throws Error(unsupported) if
  /// the driver or the device cannot make them.
  Partitions(int count, int multiprocessors);
  ~Partitions();
  Partitions(const Partitions&) = delete;
  Partitions& operator=(const Partitions&) = delete;

  /// Does each of `works` on its own partition, all at once; returns when all is done.
  void run(const std::vector<Launch>& works) const;

  /// Times `repetitions` of `works`, one for each partition, both ways; returns when all is done.
  PartitionTimes time(const std::vector<Launch>& works, int repetitions) const;

 private:
  struct Partition {
    CUgreenCtx context = nullptr;
    cudaStream_t stream = nullptr;
    cudaEvent_t end = nullptr;
  };

  void release() noexcept;
  void start(const std::vector<Launch>& works, int repetitions) const;
  float wait_ms() const;  // from middle_ to the last partition's end

  decltype(&cuGreenCtxDestroy) destroy_ = nullptr;
  int multiprocessors_;
  int all_multiprocessors_ = 0;
  std::vector<Partition> partitions_;
  cudaStream_t whole_ = nullptr;  // uses all multiprocessors
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t middle_ = nullptr;
};

}  // namespace comet::cuda
