// SPDX-License-Identifier: Apache-2.0
// From one token's logits to one score per expert. Exponentials and sums are taken in double and
// rounded once, so scores are within a few units in the last place of any float32 framework's.
#pragma once

#include <cstdint>
#include <span>

namespace comet {

/// Softmax over all `logits` into `scores` (equal sizes, at least 1; may be the same memory). A
/// logit of minus infinity masks its expert: score 0. Throws Error(out_of_range) naming `token` if
/// the largest logit is not finite, where no softmax exists.
void softmax_scores(std::span<const float> logits, std::span<float> scores, std::int64_t token);

/// The logistic function of each logit into `scores`; infinite logits give 0 and 1.
void sigmoid_scores(std::span<const float> logits, std::span<float> scores);

/// Throws Error(out_of_range) naming `token` and the expert if any logit is NaN.
void check_no_nan(std::span<const float> logits, std::int64_t token);

}  // namespace comet
