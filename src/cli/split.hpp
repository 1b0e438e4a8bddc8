// SPDX-License-Identifier: Apache-2.0
// How tokens are split over ranks: as evenly as possible, earlier ranks taking the rest.
#pragma once

#include <cstdint>

namespace comet::cli {

struct TokenShare {
  std::int64_t begin = 0;
  std::int64_t count = 0;
};

constexpr TokenShare token_share(std::int64_t total, std::int64_t ranks, std::int64_t rank) {
  const std::int64_t rest = total % ranks;
  return {.begin = rank * (total / ranks) + (rank < rest ? rank : rest),
          .count = total / ranks + (rank < rest ? 1 : 0)};
}

}  // namespace comet::cli
