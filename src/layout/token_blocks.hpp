// SPDX-License-Identifier: Apache-2.0
// How a home rank's tokens are cut into blocks of 64 (the unit of signals) and groups (ranges of
// blocks that go through both stages together).
#pragma once

#include <cstdint>

#include "base/int_math.hpp"
#include "base/platform.hpp"

namespace comet {

/// Tokens of one combine signal: small enough that sums start early, large enough that a
/// system-scope signal is rare beside its payload.
inline constexpr std::int64_t kTokenBlock = 64;

COMET_HOST_DEVICE constexpr std::int64_t num_token_blocks(std::int64_t tokens) {
  return ceil_div(tokens, kTokenBlock);
}

/// First block of group `group`; group_block_begin(.., groups) is the number of blocks. Groups are
/// as equal as whole blocks allow and may be empty.
COMET_HOST_DEVICE constexpr std::int64_t group_block_begin(std::int64_t num_blocks,
                                                           std::int64_t groups,
                                                           std::int64_t group) {
  return num_blocks * group / groups;
}

/// Tokens of block `block` of `tokens` tokens: [begin, end).
struct TokenRange {
  std::int32_t begin;
  std::int32_t end;
};

COMET_HOST_DEVICE constexpr TokenRange block_tokens(std::int64_t tokens, std::int64_t block) {
  return {static_cast<std::int32_t>(block * kTokenBlock),
          static_cast<std::int32_t>(min_of(tokens, (block + 1) * kTokenBlock))};
}

}  // namespace comet
