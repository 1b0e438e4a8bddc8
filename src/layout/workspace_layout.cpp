// SPDX-License-Identifier: Apache-2.0
#include "layout/workspace_layout.hpp"

#include <algorithm>
#include <type_traits>

#include "layout/token_blocks.hpp"

namespace comet {

static_assert(std::is_trivially_copyable_v<CallHeader>);

bool WorkspaceSizes::covers(const WorkspaceSizes& other) const noexcept {
  return world == other.world && ids >= other.ids && x_bytes >= other.x_bytes &&
         combine_bytes >= other.combine_bytes && blocks >= other.blocks && slots >= other.slots;
}

void WorkspaceSizes::grow_to(const WorkspaceSizes& other) noexcept {
  world = other.world;
  ids = std::max(ids, other.ids);
  x_bytes = std::max(x_bytes, other.x_bytes);
  combine_bytes = std::max(combine_bytes, other.combine_bytes);
  blocks = std::max(blocks, other.blocks);
  slots = std::max(slots, other.slots);
}

WorkspaceSizes workspace_sizes(const LayerDims& dims) {
  WorkspaceSizes sizes;
  sizes.world = dims.world;
  sizes.ids = dims.max_tokens * dims.topk;
  sizes.x_bytes = dims.max_tokens * dims.row_bytes();
  sizes.combine_bytes = dims.world * sizes.x_bytes;
  // Schedule reference has one signal of each source, also where there are no tokens.
  sizes.blocks = std::max<std::int64_t>(num_token_blocks(dims.max_tokens), 1);
  // The narrowest panel is one column tile.
  sizes.slots = dims.world * ceil_div(dims.hidden, dims.panel_n) * sizes.blocks;
  return sizes;
}

WorkspaceLayout make_workspace_layout(const WorkspaceSizes& sizes) {
  constexpr std::int64_t kAlign = 256;
  std::int64_t bytes = 0;
  const auto place = [&bytes](std::int64_t size) {
    const std::int64_t at = bytes;
    bytes = round_up(bytes + size, kAlign);
    return at;
  };
  WorkspaceLayout layout{};
  for (std::int64_t& at : layout.header) at = place(sizeof(CallHeader));
  layout.published = place(sizes.world * 4);
  layout.copied = place(sizes.world * 4);
  layout.sent = place(sizes.world * sizes.blocks * 4);
  layout.combine_slots = place(sizes.slots * 4);
  for (std::int64_t& at : layout.ids) at = place(sizes.ids * 2);
  for (std::int64_t& at : layout.weights) at = place(sizes.ids * 4);
  layout.x = place(sizes.x_bytes);
  layout.combine = place(sizes.combine_bytes);
  layout.bytes = bytes;
  return layout;
}

}  // namespace comet
