// SPDX-License-Identifier: Apache-2.0
// What the fused schedule chooses by a layer's shape alone.
#pragma once

#include "backend/cuda/kernels/overlap_order.hpp"
#include "layout/layer_dims.hpp"
#include "layout/run_config.hpp"

namespace comet::cuda {

/// Order and sizes of work for a call with `config`; who communicates where is left to the caller.
/// Takes routing to be uniform: other routings are slower by it and as right.
OverlapChoice choose_overlap(const LayerDims& dims, const RunConfig& config);

/// What a rank copies for each of its rows if routing is uniform.
struct UniformCounts {
  double pulls_per_row;   ///< Tokens of other ranks.
  double pushes_per_row;  ///< Partial sums that it sends, to itself too, or gets from others.
};
UniformCounts uniform_counts(const LayerDims& dims);

}  // namespace comet::cuda
