// SPDX-License-Identifier: Apache-2.0
// Phi-3.5-MoE's inference rule: two choices, one after the other, each weighted by a softmax over
// only the experts close to the best one that is left.
#pragma once

#include <cstdint>
#include <span>

namespace comet {

/// Buffers of one token, each [num_experts], kept by the caller over tokens.
struct SparsemixerScratch {
  std::span<float> left;    ///< Logits without the choices already made.
  std::span<float> scores;  ///< Softmax of the experts close to the best.
};

/// Writes two ids and their weights, which are not renormalised and may sum to nearly 2. An expert
/// is close if (best - logit) / max(|logit|, best) <= 2 * jitter_eps, in float32, where `best` is
/// the largest logit that is left. Throws Error(out_of_range) naming `token` unless two logits are
/// finite and none is plus infinity.
void route_sparsemixer(std::span<const float> logits, double jitter_eps, std::int64_t token,
                       SparsemixerScratch scratch, std::span<std::int32_t, 2> ids,
                       std::span<float, 2> weights);

}  // namespace comet
