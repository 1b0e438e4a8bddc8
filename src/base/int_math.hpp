// SPDX-License-Identifier: Apache-2.0
// Integer arithmetic that hosts and devices share, and multiplication that notices overflow.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "base/check.hpp"
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

/// Product of factors >= 0; throws Error(invalid_argument) naming `what` if it does not fit 63
/// bits.
inline std::int64_t checked_product(const char* what, std::initializer_list<std::int64_t> factors) {
  std::int64_t product = 1;
  for (const std::int64_t factor : factors) {
    check(factor >= 0 && !__builtin_mul_overflow(product, factor, &product),
          ErrorCode::invalid_argument, "[layout] size of {} overflows 63 bits", what);
  }
  return product;
}

}  // namespace comet
