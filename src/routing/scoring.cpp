// SPDX-License-Identifier: Apache-2.0
#include "routing/scoring.hpp"

#include <algorithm>
#include <cmath>

#include "base/check.hpp"

namespace comet {

void softmax_scores(std::span<const float> logits, std::span<float> scores, std::int64_t token) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  check(std::isfinite(largest), ErrorCode::out_of_range,
        "[router] largest logit of token {}: {}, a softmax needs a finite one", token, largest);
  // The difference is taken in float32, as the frameworks do: its rounding is the largest error of
  // a float32 softmax, and sharing it keeps near ties in the same order. The second exponential
  // of a logit costs less than a row of doubles would.
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - largest));
  for (std::size_t e = 0; e < logits.size(); ++e) {
    scores[e] = static_cast<float>(std::exp(static_cast<double>(logits[e] - largest)) / sum);
  }
}

void sigmoid_scores(std::span<const float> logits, std::span<float> scores) {
  for (std::size_t e = 0; e < logits.size(); ++e) {
    scores[e] = static_cast<float>(1.0 / (1.0 + std::exp(-static_cast<double>(logits[e]))));
  }
}

void check_no_nan(std::span<const float> logits, std::int64_t token) {
  for (std::size_t e = 0; e < logits.size(); ++e) {
    check(!std::isnan(logits[e]), ErrorCode::out_of_range,
          "[router] logit of token {} for expert {}: NaN, every logit must be a number", token, e);
  }
}

}  // namespace comet
