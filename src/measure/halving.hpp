// SPDX-License-Identifier: Apache-2.0
// Successive halving: many candidates are tried once, the better ones more often.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <vector>

namespace comet {

/// Times a candidate once, in microseconds; nothing once the time for it is over.
using Trial = std::function<std::optional<double>(std::size_t candidate)>;

/// Tries all of `count` candidates, then the faster half of them once more, and so on, until each
/// of the best `keep` has been tried at least twice; a candidate counts by its fastest trial.
/// Returns these, best first; fewer if there are not as many, or the time was over. Once it is over
/// no further trial is made, and what was not tried is left out.
std::vector<std::size_t> successive_halving(std::size_t count, std::size_t keep,
                                            const Trial& trial);

/// Trials that successive_halving makes if the time suffices.
std::size_t halving_trials(std::size_t count, std::size_t keep);

}  // namespace comet
