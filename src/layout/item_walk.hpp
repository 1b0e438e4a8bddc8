// SPDX-License-Identifier: Apache-2.0
// The order in which a GPU's blocks take up the items of both products in the fused schedule.
#pragma once

#include <cstdint>

#include "base/int_math.hpp"
#include "base/platform.hpp"
#include "layout/band_walk.hpp"
#include "layout/column_range.hpp"
#include "layout/panels.hpp"

namespace comet {

/// What is walked. Columns are column tiles.
struct WalkShape {
  std::int32_t num_tiles = 0;  ///< row tiles of the rank
  std::int32_t phases = 1;
  std::int32_t first_columns = 0;  ///< of the first product
  std::int32_t first_wide = 0;     ///< those of them that are not narrow: all, or all but the last
  std::int32_t second_columns = 0;
  std::int32_t num_blocks = 1;  ///< of the grid
  /// Items that are taken up together, always of one product: 2 by pairs of blocks, else 1.
  std::int32_t together = 1;
};

/// An item of either product.
struct ProductItem {
  bool is_second = false;
  std::int32_t place = 0;  ///< of its row tile in the order of tiles
  std::int32_t column = 0;
  bool is_copy = false;  ///< the one before once more, to fill up what is taken up together
};

/// Walks tickets: phase by phase, the first product and then the second by panels. One thread's; it
/// goes forward only.
class ItemWalk {
 public:
  /// `panels` are the second product's, cut at multiples of `tile` columns, and outlive the walk.
  COMET_HOST_DEVICE constexpr ItemWalk(const WalkShape& shape, const Panels& panels,
                                       std::int32_t tile)
      : shape_(shape), panels_(panels), tile_(tile), band_tiles_(tiles_of_band(shape.num_blocks)) {
    enter_phase();
    first_of_second_ = static_cast<std::uint32_t>(items_);
  }

  /// The item of a ticket, tickets ascending from call to call; false past the last one.
  COMET_HOST_DEVICE constexpr bool find(std::uint32_t ticket, ProductItem& item) {
    while (ticket - base_ >= static_cast<std::uint32_t>(items_)) {
      base_ += static_cast<std::uint32_t>(items_);
      if (!enter_next()) return false;
    }
    const auto index = static_cast<std::int32_t>(ticket - base_);
    const std::int32_t last = tiles_ * columns() - 1;
    item = item_at(index > last ? last : index);
    item.is_copy = index > last;
    return true;
  }

  /// The first ticket of a second product.
  COMET_HOST_DEVICE constexpr std::uint32_t first_of_second() const { return first_of_second_; }

 private:
  COMET_HOST_DEVICE constexpr std::int32_t columns() const {
    return is_second_ ? shape_.second_columns : shape_.first_columns;
  }

  COMET_HOST_DEVICE constexpr void count_items() {
    items_ = (tiles_ * columns() + shape_.together - 1) / shape_.together * shape_.together;
  }

  COMET_HOST_DEVICE constexpr void enter_phase() {
    begin_ = phase_begin(shape_.num_tiles, shape_.phases, phase_);
    tiles_ = phase_begin(shape_.num_tiles, shape_.phases, phase_ + 1) - begin_;
    count_items();
  }

  // The second product after the first, or the next phase; false past the last one.
  COMET_HOST_DEVICE constexpr bool enter_next() {
    if (is_second_ && phase_ + 1 == shape_.phases) {
      items_ = 0;
      return false;
    }
    is_second_ = !is_second_;
    if (is_second_) {
      count_items();
    } else {
      ++phase_;
      enter_phase();
    }
    return true;
  }

  COMET_HOST_DEVICE constexpr ProductItem item_at(std::int32_t index) const {
    if (!is_second_) {
      const GemmItem item = gemm_item(index, tiles_, shape_.first_wide, band_tiles_);
      return {false, begin_ + item.tile, item.column, false};
    }
    const ColumnRange panel = panels_.columns(panels_.of(index / tiles_ * tile_));
    const auto column = static_cast<std::int32_t>(panel.begin / tile_);
    const auto end = static_cast<std::int32_t>(ceil_div(panel.end, std::int64_t{tile_}));
    const GemmItem item = gemm_item(index - column * tiles_, tiles_, end - column, band_tiles_);
    return {true, begin_ + item.tile, column + item.column, false};
  }

  const WalkShape shape_;
  const Panels& panels_;
  std::int32_t tile_;
  std::int32_t band_tiles_;
  std::uint32_t first_of_second_ = 0;
  // Where the walk is: in either product of a phase.
  std::int32_t phase_ = 0;
  bool is_second_ = false;
  std::uint32_t base_ = 0;  // its first ticket
  std::int32_t items_ = 0;  // how many it has, with copies
  std::int32_t begin_ = 0;  // the phase's tiles, as places
  std::int32_t tiles_ = 0;
};

}  // namespace comet
