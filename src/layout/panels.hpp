// SPDX-License-Identifier: Apache-2.0
// How the second GEMM's columns are cut into panels, whose partial sums are sent as each is done.
#pragma once

#include <cstdint>

#include "base/int_math.hpp"
#include "base/platform.hpp"
#include "layout/column_range.hpp"
#include "layout/run_config.hpp"

namespace comet {

/// Panels of `width` columns, the last of which is two if it is wider than a column tile: what is
/// sent after the last product takes time that nothing hides, so that should be little, while wide
/// panels have fewer signals and read activations less often.
class Panels {
 public:
  /// Of no columns.
  constexpr Panels() = default;
  /// All positive, below 2^31; `width` a multiple of `tile`, which is a column tile's.
  COMET_HOST_DEVICE constexpr Panels(std::int64_t hidden, std::int64_t width, std::int64_t tile)
      : hidden_(static_cast<std::int32_t>(hidden)),
        width_(static_cast<std::int32_t>(width)),
        last_(static_cast<std::int32_t>(ceil_div(hidden, width)) - 1),
        cut_(hidden_) {
    const std::int32_t begin = last_ * width_;
    const std::int64_t rest = hidden_ - begin;
    if (rest > tile) cut_ = begin + static_cast<std::int32_t>(round_up(ceil_div(rest, 2), tile));
  }

  COMET_HOST_DEVICE constexpr std::int32_t count() const {
    return last_ + (cut_ < hidden_ ? 2 : 1);
  }

  COMET_HOST_DEVICE constexpr ColumnRange columns(std::int64_t panel) const {
    if (panel > last_) return {cut_, hidden_};
    return {panel * width_, panel < last_ ? (panel + 1) * width_ : cut_};
  }

  /// What part of all columns a panel is.
  constexpr double share(std::int64_t panel) const {
    const ColumnRange range = columns(panel);
    return static_cast<double>(range.end - range.begin) / hidden_;
  }

  /// The panel of a column.
  COMET_HOST_DEVICE constexpr std::int32_t of(std::int32_t column) const {
    return column < cut_ ? column / width_ : last_ + 1;
  }

 private:
  std::int32_t hidden_ = 0;
  std::int32_t width_ = 1;
  std::int32_t last_ = 0;  ///< The last panel, or the first of the two that it is cut into.
  std::int32_t cut_ = 0;   ///< Where that ends.
};

/// Those of a call.
constexpr Panels cut_panels(const LayerDims& dims, const RunConfig& config) {
  return {dims.hidden, config.panel, dims.panel_n};
}

}  // namespace comet
