// SPDX-License-Identifier: Apache-2.0
// The tile walks of the two GEMMs: which (tile, columns) comes when. All backends walk by these.
#pragma once

#include <cstdint>

#include "base/int_math.hpp"
#include "base/platform.hpp"
#include "plan/dependency.hpp"

namespace comet {

/// A (row tile, column part) of one group's product; both are indices within the group: `tile` into
/// the group's walk (own rank's tiles first), `part` a column tile or panel.
struct WalkItem {
  std::int32_t tile;
  std::int32_t part;
};

/// Item `index` of the num_tiles x num_parts items of a group, for the cut that the analysis gave:
/// rows: all columns of a tile, then the next tile, since a ready tile feeds only itself; columns:
/// all tiles of a panel, then the next panel.
COMET_HOST_DEVICE constexpr WalkItem walk_item(Axis cut, std::int64_t index, std::int64_t num_tiles,
                                               std::int64_t num_parts) {
  if (cut == Axis::rows) {
    return {static_cast<std::int32_t>(index / num_parts),
            static_cast<std::int32_t>(index % num_parts)};
  }
  return {static_cast<std::int32_t>(index % num_tiles),
          static_cast<std::int32_t>(index / num_tiles)};
}

/// Item `index` of the second GEMM of a group whose first `own_tiles` tiles hold only tokens of the
/// rank itself. Their partials cross no link, so they come after all panels of the other tiles and
/// are computed while the link delivers the last of those.
COMET_HOST_DEVICE constexpr WalkItem combine_walk_item(std::int64_t index, std::int64_t own_tiles,
                                                       std::int64_t num_tiles,
                                                       std::int64_t num_panels) {
  const std::int64_t sent_tiles = num_tiles - own_tiles;
  const std::int64_t sent_items = sent_tiles * num_panels;
  if (index >= sent_items) {
    return walk_item(kGemmCombine.axis, index - sent_items, own_tiles, num_panels);
  }
  WalkItem item = walk_item(kGemmCombine.axis, index, sent_tiles, num_panels);
  item.tile += static_cast<std::int32_t>(own_tiles);
  return item;
}

}  // namespace comet
