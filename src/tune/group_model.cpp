// SPDX-License-Identifier: Apache-2.0
#include "tune/group_model.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.hpp"

namespace comet {
namespace {

// What a further group must gain to be worth its signals and its walk, as a part of the call.
constexpr double kLeastGain = 0.003;

}  // namespace

double predict_us(const GroupModel& model, const GroupCandidate& candidate) {
  check(candidate.groups >= 1 && model.world >= 1, ErrorCode::invalid_argument,
        "[tune] group model: {} groups, {} ranks, each needs at least 1", candidate.groups,
        model.world);
  const auto groups = static_cast<double>(candidate.groups);
  const double own = 1.0 / static_cast<double>(model.world);
  const auto slices =
      static_cast<std::int64_t>(std::max(1.0, std::round(candidate.tiles_per_expert)));
  const auto complete_share = [&](std::int64_t done) {
    return std::pow(static_cast<double>(done) / groups, model.rows_per_token);
  };
  double computed = 0;             // when the computing server is free
  double sent = model.link.first;  // when the link is free for pushes: after all pulls
  for (std::int64_t g = 0; g < candidate.groups; ++g) {
    for (std::int64_t s = 0; s < slices; ++s) {
      const double rows = static_cast<double>(s + 1) / static_cast<double>(slices);
      const double pulled = own < 1 ? std::max(0.0, (rows - own) / (1 - own)) : 0.0;
      const double arrived = model.link.first * (static_cast<double>(g) + pulled) / groups;
      computed = std::max(computed, pulled > 0 ? arrived : 0.0) +
                 model.compute.first * candidate.padding / groups / static_cast<double>(slices);
    }
    const double completed = complete_share(g + 1) - complete_share(g);
    for (std::int32_t p = 0; p < model.panels.count(); ++p) {
      const double share = model.panels.share(p);
      computed += model.compute.second * candidate.padding / groups * share;
      sent = std::max(sent, computed) + model.link.second * completed * share;
    }
  }
  return std::max(computed, sent);
}

std::vector<std::int64_t> rank_groups(const GroupModel& model,
                                      std::span<const GroupCandidate> candidates) {
  std::vector<std::pair<double, std::int64_t>> predicted;
  for (const GroupCandidate& candidate : candidates) {
    const double handicap = 1 + kLeastGain * static_cast<double>(candidate.groups - 1);
    predicted.emplace_back(predict_us(model, candidate) * handicap, candidate.groups);
  }
  std::sort(predicted.begin(), predicted.end());
  std::vector<std::int64_t> groups;
  for (const auto& [time, count] : predicted) groups.push_back(count);
  return groups;
}

}  // namespace comet
