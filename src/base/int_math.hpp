// SPDX-License-Identifier: Apache-2.0
// Integer arithmetic that hosts and devices share.
#pragma once

#include <cstdint>

#include "base/platform.hpp"

namespace comet {

/// Smallest integer >= a / b, for a >= 0, b > 0.
COMET_HOST_DEVICE constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

/// Smallest multiple of b that is >= a, for a >= 0, b > 0.
COMET_HOST_DEVICE constexpr std::int64_t round_up(std::int64_t a, std::int64_t b) {
  return ceil_div(a, b) * b;
}

COMET_HOST_DEVICE constexpr std::int64_t min_of(std::int64_t a, std::int64_t b) {
  return a < b ? a : b;
}

COMET_HOST_DEVICE constexpr std::int64_t max_of(std::int64_t a, std::int64_t b) {
  return a > b ? a : b;
}

}  // namespace comet
