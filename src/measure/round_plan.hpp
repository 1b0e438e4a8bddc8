// SPDX-License-Identifier: Apache-2.0
// Which call comes when in interleaved rounds, and on which copy of the inputs.
#pragma once

#include <cstddef>
#include <vector>

namespace comet {

/// A call of one of the contenders on one of the copies.
struct RoundCall {
  std::size_t contender = 0;
  std::size_t copy = 0;

  bool operator==(const RoundCall&) const = default;
};

/// All calls of the rounds, one round after the other. Each round has every contender once, and
/// begins with another one than the round before, so that none profits from what ran before it.
/// Copies take turns from call to call.
std::vector<RoundCall> plan_rounds(std::size_t contenders, std::size_t rounds, std::size_t copies);

/// Every different call once, in the order of their first times: what to make before the rounds
/// where first times are slower, as of graphs.
std::vector<RoundCall> first_calls(const std::vector<RoundCall>& planned);

}  // namespace comet
