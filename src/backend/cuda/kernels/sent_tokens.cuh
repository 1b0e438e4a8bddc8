// SPDX-License-Identifier: Apache-2.0
// The tokens of ranks whose memory cannot be read come to mirrors of it, and a signal a block says
// that they are there.
#pragma once

#include "backend/cuda/device/bounded_wait.cuh"
#include "backend/cuda/kernels/call_kernels.hpp"
#include "layout/token_blocks.hpp"

namespace comet::cuda {

/// Waits until the tokens of block `block` of `source` that this rank needs can be read; at once if
/// the rank's memory is within reach. One thread. False if the wait failed.
__device__ __forceinline__ bool wait_for_tokens(const CallParams& p, std::int32_t source,
                                                std::int32_t block) {
  if (p.world.is_remote == nullptr || p.world.is_remote[source] == 0) return true;
  const auto* slots = reinterpret_cast<const std::uint32_t*>(p.peers[p.world.rank] + p.layout.sent);
  return wait_for_epoch(
      p.world, slots + sent_slot(source, block, num_token_blocks(p.dims.max_tokens)),
      {.stage = Stage::dispatch_gemm, .epoch = p.state->epoch, .source = source, .block = block});
}

}  // namespace comet::cuda
