// SPDX-License-Identifier: Apache-2.0
// RunConfig: what is chosen per call and indexes shared memory, so equal on all ranks. And how much
// a call may be asked for.
#pragma once

#include <cstdint>

#include "layout/layer_dims.hpp"

namespace comet {

/// Most workers of a rank, and most communication workers of a call.
inline constexpr int kMaxWorkers = 1024;
/// Most groups or chunks of a call.
inline constexpr std::int64_t kMaxGroups = 1024;
/// Most waves of a call.
inline constexpr std::int64_t kMaxWaves = 64;

struct RunConfig {
  std::int32_t schedule = 0;  ///< comet::Schedule as a number.
  std::int32_t groups = 1;
  std::int64_t panel = 0;  ///< Columns, a multiple of panel_n; see layout/panels.hpp.
  std::int64_t chunk = 0;  ///< Most tokens of one transfer, 1 to kTokenBlock.
};

/// FNV-1a over all that must be equal on all ranks; published with every call.
std::uint64_t config_hash(const MoeDesc& desc, const ParallelDesc& parallel, const LayerDims& dims,
                          const RunConfig& config, std::int64_t max_rows, std::int64_t layer_id);

}  // namespace comet
