// SPDX-License-Identifier: Apache-2.0
// Where a rank reads the tokens that its experts need.
#pragma once

#include "backend/cuda/kernels/call_kernels.hpp"

namespace comet::cuda {

/// Token `token` of `source`: of another rank in its workspace, an own one where own_x says.
__device__ __forceinline__ const std::byte* token_at(const CallParams& p, std::int32_t source,
                                                     std::int32_t token) {
  if (source == p.world.rank) return p.own_x + token * p.own_x_stride_bytes;
  return p.peers[source] + p.layout.x + token * p.dims.row_bytes();
}

/// 16 bytes of a token. Host memory may be cached; a rank must not be served what another has
/// fetched.
__device__ __forceinline__ uint4 load_token_part(const CallParams& p, const uint4* from) {
  return p.world.host_link ? __ldcv(from) : __ldcs(from);
}

}  // namespace comet::cuda
