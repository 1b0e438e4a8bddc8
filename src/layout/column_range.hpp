// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/int_math.hpp"
#include "base/platform.hpp"

namespace comet {

/// Columns [begin, end).
struct ColumnRange {
  std::int64_t begin;
  std::int64_t end;
};

/// Part `part` of `columns` that are cut every `width`.
COMET_HOST_DEVICE constexpr ColumnRange column_part(std::int64_t columns, std::int64_t width,
                                                    std::int64_t part) {
  return {part * width, min_of(columns, (part + 1) * width)};
}

}  // namespace comet
