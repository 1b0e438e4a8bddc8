// SPDX-License-Identifier: Apache-2.0
// AutoOptions: what a call's options get that were left to choose, from the profile or the model.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "comet/layer.hpp"
#include "tune/choose.hpp"

namespace comet {

/// `options` of schedule comet, with `config` for all that they leave to choose.
ForwardOptions fill_in(const ForwardOptions& options, const TuneConfig& config);

/// Of one layer on one rank. What it chooses depends only on what all ranks know alike: the
/// description, the world and its link when the layer was made, rank 0's workers, and the profile,
/// which must be the same file everywhere; ranks that chose differently would find it by the hash
/// in their headers.
class AutoOptions {
 public:
  /// Collective.
  AutoOptions(const MoeDesc& desc, const ParallelDesc& parallel, const LayerOptions& options,
              World& world);

  /// `options` with groups, and what else may be chosen, filled in. The first call for a number of
  /// tokens, rounded to a power of two, takes about a tenth of a millisecond, later ones a few
  /// nanoseconds.
  ForwardOptions resolve(const ForwardOptions& options);

  /// The choice for so many tokens, and why, in one sentence.
  std::string explain(std::int64_t tokens);

 private:
  static constexpr int kBuckets = 40;  ///< By the logarithm of tokens.

  const Choice& choice_for(std::int64_t tokens);
  std::int64_t tokens_of(std::int64_t expected) const;

  const TuningState* tuning_ = nullptr;  ///< Lives as long as the process.
  TuneCase of_;
  std::int64_t most_tokens_ = 0;
  std::int64_t most_groups_ = 1;
  std::optional<Choice> full_;                          ///< For as many tokens as may be.
  std::array<std::optional<Choice>, kBuckets> partly_;  ///< For 2^i.
};

}  // namespace comet
