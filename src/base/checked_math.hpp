// SPDX-License-Identifier: Apache-2.0
// Multiplication that notices overflow.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "base/check.hpp"

namespace comet {

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
