// SPDX-License-Identifier: Apache-2.0
#include "routing/topk.hpp"

#include <algorithm>
#include <limits>

namespace comet {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

float score_of(std::span<const float> group, GroupScore rule) {
  float best = kMasked;
  float second = kMasked;
  for (const float score : group) {
    second = std::max(second, std::min(best, score));
    best = std::max(best, score);
  }
  return rule == GroupScore::sum_of_two && group.size() > 1 ? best + second : best;
}

}  // namespace

void select_topk(std::span<const float> scores, std::span<std::int32_t> ids) {
  // Insertion into a short sorted list: K is at most 32, and a new score seldom enters it.
  std::size_t filled = 0;
  for (std::size_t e = 0; e < scores.size(); ++e) {
    const auto beats = [&](std::size_t place) { return scores[e] > scores[ids[place]]; };
    if (filled == ids.size() && (filled == 0 || !beats(filled - 1))) continue;
    std::size_t place = filled < ids.size() ? filled++ : filled - 1;
    for (; place > 0 && beats(place - 1); --place) ids[place] = ids[place - 1];
    ids[place] = static_cast<std::int32_t>(e);
  }
}

GroupLimit::GroupLimit(std::int64_t num_groups, std::int64_t topk_groups, GroupScore rule)
    : rule_(rule), group_scores_(num_groups), selected_(topk_groups), stays_(num_groups) {}

void GroupLimit::apply(std::span<float> scores) {
  const std::size_t num_groups = group_scores_.size();
  if (selected_.size() == num_groups) return;
  const std::size_t group_size = scores.size() / num_groups;
  for (std::size_t g = 0; g < num_groups; ++g) {
    group_scores_[g] = score_of(scores.subspan(g * group_size, group_size), rule_);
  }
  select_topk(group_scores_, selected_);
  stays_.assign(num_groups, false);
  for (const std::int32_t g : selected_) stays_[g] = true;
  for (std::size_t g = 0; g < num_groups; ++g) {
    if (!stays_[g]) std::ranges::fill(scores.subspan(g * group_size, group_size), kMasked);
  }
}

}  // namespace comet
