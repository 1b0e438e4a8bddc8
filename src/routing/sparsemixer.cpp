// SPDX-License-Identifier: Apache-2.0
#include "routing/sparsemixer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "routing/scoring.hpp"

namespace comet {

void route_sparsemixer(std::span<const float> logits, double jitter_eps, std::int64_t token,
                       SparsemixerScratch scratch, std::span<std::int32_t, 2> ids,
                       std::span<float, 2> weights) {
  constexpr float kGone = -std::numeric_limits<float>::infinity();
  const auto threshold = static_cast<float>(2 * jitter_eps);
  std::ranges::copy(logits, scratch.left.begin());
  for (std::size_t choice = 0; choice < 2; ++choice) {
    // max_element returns the first of equals: the lower id.
    const auto place = std::ranges::max_element(scratch.left) - scratch.left.begin();
    const float best = scratch.left[place];
    for (std::size_t e = 0; e < logits.size(); ++e) {
      // The distance is measured on the original logits. 0/0 is NaN, hence not far, which is right:
      // it arises only where the logit equals the best.
      const float factor = std::max(std::abs(logits[e]), best);
      const bool far = (best - logits[e]) / factor > threshold;
      scratch.scores[e] = far ? kGone : scratch.left[e];
    }
    softmax_scores(scratch.scores, scratch.scores, token);
    ids[choice] = static_cast<std::int32_t>(place);
    weights[choice] = scratch.scores[place];
    scratch.left[place] = kGone;
  }
}

}  // namespace comet
