// SPDX-License-Identifier: Apache-2.0
// Choices whose loads follow given inclusion probabilities as closely as whole numbers can, so that
// a benchmark's imbalance is the one asked for even with few tokens.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "routing/random.hpp"

namespace comet {

/// Most tokens of one drawing; keeps its 63-bit arithmetic exact for up to 32 choices.
inline constexpr std::int64_t kMaxDrawnTokens = std::int64_t{1} << 31;

/// Expert ids [tokens, choices], distinct within a token, in random order. `inclusion`
/// [num_experts] sums to `choices` with no value above 1. Expert e gets tokens x inclusion[e]
/// choices, rounded down or up at random so that the expectation is exact.
std::vector<std::int32_t> draw_by_inclusion(std::span<const double> inclusion, std::int64_t choices,
                                            std::int64_t tokens, PortableRandom& random);

}  // namespace comet
