// SPDX-License-Identifier: Apache-2.0
// DevicePuts: what a call sends to ranks whose memory its kernels can neither read nor write.
#pragma once

#include <cuda_runtime_api.h>

#include "backend/cuda/kernels/call_kernels.hpp"

namespace comet::cuda {

/// Kernels that put, see RemoteRanks: this rank's published tokens lie in others' mirrors of it,
/// and partial sums are written to the own mirror of their home, whose signal there starts the put.
/// They only queue, also inside a capture.
class DevicePuts {
 public:
  virtual ~DevicePuts() = default;

  /// After launch_publish: header and ids to all remote ranks, and the signal of them.
  virtual cudaError_t queue_published(const CallParams& params, cudaStream_t stream) = 0;

  /// After the plan, beside the kernels of the call: the tokens that remote ranks need, then
  /// partial sums as they come. One block, which needs a multiprocessor that no waiting kernel
  /// takes.
  virtual cudaError_t queue_carry(const CallParams& params, cudaStream_t stream) = 0;
};

}  // namespace comet::cuda
