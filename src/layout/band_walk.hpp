// SPDX-License-Identifier: Apache-2.0
// The order in which a GPU's blocks walk the items of its products: what kernels do and what
// predictions of them follow.
#pragma once

#include <cstdint>

#include "base/platform.hpp"

namespace comet {

/// A row tile and a column tile.
struct GemmItem {
  std::int32_t tile;
  std::int32_t column;
};

/// Row tiles of a band for a grid of `num_blocks`: what runs at once is about a square of items,
/// and a rank on a part of a GPU keeps its band's rows in a part of L2.
COMET_HOST_DEVICE constexpr std::int32_t tiles_of_band(std::int32_t num_blocks) {
  return num_blocks <= 32 ? 4 : num_blocks <= 64 ? 8 : 16;
}

/// Item `index` of num_tiles x (wide_columns and maybe a narrow one), tiles counted from 0.
/// `band_tiles` row tiles go through all wide columns before the next so many, so that their rows
/// and the columns' weights stay in L2. The narrow column of all tiles comes last: its items are
/// short and fill up what the others left.
COMET_HOST_DEVICE constexpr GemmItem gemm_item(std::int32_t index, std::int32_t num_tiles,
                                               std::int32_t wide_columns, std::int32_t band_tiles) {
  const std::int32_t wide_items = num_tiles * wide_columns;
  if (index >= wide_items) return {index - wide_items, wide_columns};
  const std::int32_t items_of_band = band_tiles * wide_columns;
  const std::int32_t band = index / items_of_band;
  const std::int32_t first = band * band_tiles;
  const std::int32_t height = num_tiles - first < band_tiles ? num_tiles - first : band_tiles;
  const std::int32_t rest = index - band * items_of_band;
  return {first + rest % height, rest / height};
}

/// First place of phase `phase` of a rank with `num_tiles` tiles: groups on GPUs are phases of the
/// tile order, each of which goes through both products before the next.
COMET_HOST_DEVICE constexpr std::int32_t phase_begin(std::int32_t num_tiles, std::int32_t phases,
                                                     std::int32_t phase) {
  return static_cast<std::int32_t>(std::int64_t{num_tiles} * phase / phases);
}

/// The phase of place `place`, which is below num_tiles: the inverse of phase_begin.
COMET_HOST_DEVICE constexpr std::int32_t phase_of_place(std::int32_t num_tiles, std::int32_t phases,
                                                        std::int32_t place) {
  return static_cast<std::int32_t>(((std::int64_t{place} + 1) * phases - 1) / num_tiles);
}

}  // namespace comet
