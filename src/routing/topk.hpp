// SPDX-License-Identifier: Apache-2.0
// Choosing the best of one token's scores, with ties to the lower id, and limiting the choice to
// the best groups of experts.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace comet {

/// Ids of the ids.size() best of `scores`, best first; equal scores go to the lower id. Needs
/// ids.size() <= scores.size() and no NaN.
void select_topk(std::span<const float> scores, std::span<std::int32_t> ids);

/// How a group of experts is scored by its members' scores.
enum class GroupScore : std::uint8_t {
  best,        ///< The best member (DeepSeek-V2).
  sum_of_two,  ///< The sum of the best two; of the one where a group has one (DeepSeek-V3).
};

/// Keeps only the best groups' scores.
class GroupLimit {
 public:
  /// `num_groups` equal groups of consecutive experts, of which `topk_groups` stay.
  GroupLimit(std::int64_t num_groups, std::int64_t topk_groups, GroupScore rule);

  /// Sets the scores of all experts outside the best groups to minus infinity. Equal groups: the
  /// lower one stays. scores.size() must be a multiple of num_groups.
  void apply(std::span<float> scores);

 private:
  GroupScore rule_;
  std::vector<float> group_scores_;     // [num_groups]
  std::vector<std::int32_t> selected_;  // [topk_groups]
  std::vector<bool> stays_;             // [num_groups]
};

}  // namespace comet
