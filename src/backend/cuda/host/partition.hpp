// SPDX-License-Identifier: Apache-2.0
// Partitions of a GPU's multiprocessors: CUDA green contexts, so that ranks that share a GPU run at
// once, each on its own.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

namespace comet::cuda {

/// Whether MPS gives this process a part of the GPU only, as its user wants: that is the rank's,
/// then.
bool has_mps_limit();

/// Multiprocessors that a stream's kernels run on, and such streams.
class Partition {
 public:
  virtual ~Partition() = default;
  virtual int multiprocessors() const noexcept = 0;
  virtual cudaStream_t stream() const noexcept = 0;
  virtual cudaStream_t copy_stream() const noexcept = 0;
  virtual cudaStream_t put_stream() const noexcept = 0;
  /// Whether kernels queued on `stream` stay inside: its own streams, or any if it is a whole GPU.
  virtual bool owns(cudaStream_t stream) const = 0;
};

/// Number `index` of the `count` equal partitions of the current device; of one it is the whole
/// device, without a green context. Throws Error(unsupported) if there are too few multiprocessors
/// or the driver is older than CUDA 12.5.
std::unique_ptr<Partition> make_partition(int index, int count);

}  // namespace comet::cuda
