// SPDX-License-Identifier: Apache-2.0
// How often each expert is to be chosen: inclusion probabilities, the chance that a token takes an
// expert when it takes `choices` distinct ones. They sum to `choices` and none exceeds 1; an
// expert's share of all choices is its probability divided by `choices`.
#pragma once

#include <cstdint>
#include <vector>

namespace comet {

/// Largest standard deviation across experts that inclusion probabilities can have.
double max_inclusion_std(std::int64_t num_experts, std::int64_t choices);

/// Probabilities with the standard deviation `std` (divided by the number of experts, not one
/// less), at most max_inclusion_std. Shape: few hot experts, many cool ones, at places that depend
/// on num_experts only. [num_experts]
std::vector<double> spread_inclusion(std::int64_t num_experts, std::int64_t choices, double std);

/// Probabilities proportional to 1 / (e + 1)^exponent, except that an expert that would exceed 1
/// stays at 1 and the others take up the rest in their proportions. [num_experts]
std::vector<double> zipf_inclusion(std::int64_t num_experts, std::int64_t choices, double exponent);

}  // namespace comet
