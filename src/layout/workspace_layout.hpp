// SPDX-License-Identifier: Apache-2.0
// Where everything lies in the one symmetric allocation of a workspace. The regions are those of
// the largest layer that shares it, so that no layer's data ever lies where another's slots are.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layout/call_fault.hpp"
#include "layout/layer_dims.hpp"

namespace comet {

/// What a rank publishes at the start of a call, beside its ids. A fault that only this rank can
/// see travels in place of a good T, and all ranks skip the call with its sentence.
struct CallHeader {
  std::uint32_t epoch = 0;
  std::int32_t tokens = 0;
  std::uint64_t config_hash = 0;
  std::int32_t fault = 0;   ///< 0, or 1 + ErrorCode.
  char sentence[256] = {};  ///< NUL-terminated, valid if fault != 0; empty if the detail says it.
  InputFaultDetail detail;  ///< Of a fault that a device found.
};

/// Region sizes, the maxima over the layers of a workspace.
struct WorkspaceSizes {
  std::int64_t world = 1;
  std::int64_t ids = 0;            ///< max_tokens * topk
  std::int64_t x_bytes = 0;        ///< max_tokens * H elements
  std::int64_t combine_bytes = 0;  ///< world * max_tokens * H elements
  std::int64_t blocks = 0;         ///< token blocks of max_tokens
  std::int64_t slots = 0;          ///< world * column tiles * token blocks

  /// True if a workspace of these sizes also serves `other`.
  bool covers(const WorkspaceSizes& other) const noexcept;
  void grow_to(const WorkspaceSizes& other) noexcept;
};

WorkspaceSizes workspace_sizes(const LayerDims& dims);

/// Byte offsets, each region aligned to 256 bytes. Regions with [2] alternate by the epoch's
/// parity.
struct WorkspaceLayout {
  std::int64_t header[2];      ///< CallHeader
  std::int64_t published;      ///< u32 [world]: epoch of each rank's last publish
  std::int64_t copied;         ///< u32 [world]: epoch of the x of each rank that is there, on GPUs
  std::int64_t sent;           ///< u32 [world, token blocks], see sent_slot
  std::int64_t combine_slots;  ///< u32, see combine_slot
  std::int64_t ids[2];         ///< u16 [tokens, topk]
  std::int64_t weights[2];     ///< f32 [tokens, topk]
  std::int64_t x;              ///< element [tokens, H]
  std::int64_t combine;        ///< element: see combine_index
  std::int64_t bytes;          ///< In all.
};

WorkspaceLayout make_workspace_layout(const WorkspaceSizes& sizes);

/// Where the combine buffer holds columns [column, column + width) of `source`'s partial of
/// `token`. It is cut into strips of panel_n columns (the last may be narrower), each [world,
/// max_tokens, width], so that a block's partials of a panel lie together. `column` is the strip's
/// first.
COMET_HOST_DEVICE inline std::int64_t combine_index(const LayerDims& dims, std::int64_t column,
                                                    std::int64_t width, std::int64_t source,
                                                    std::int64_t token) {
  return dims.world * dims.max_tokens * column + (source * dims.max_tokens + token) * width;
}

/// Index of the signal "the tokens of source's 64-token block that this rank needs are in its
/// mirror" among the sent slots of a rank on another host than the source. `num_blocks` as below.
COMET_HOST_DEVICE constexpr std::int64_t sent_slot(std::int64_t source, std::int64_t block,
                                                   std::int64_t num_blocks) {
  return source * num_blocks + block;
}

/// Index of the signal "source's partials of panel and 64-token block are here" among the combine
/// slots of a home rank. `num_blocks` are those of max_tokens. One numbering serves panels of any
/// width, since a slot that another width used holds an older epoch.
COMET_HOST_DEVICE constexpr std::int64_t combine_slot(std::int64_t source, std::int64_t panel,
                                                      std::int64_t block, std::int64_t num_panels,
                                                      std::int64_t num_blocks) {
  return (source * num_panels + panel) * num_blocks + block;
}

}  // namespace comet
