// SPDX-License-Identifier: Apache-2.0
// PlanProblem: everything a plan is derived from, as plain pointers that host and device share.
#pragma once

#include <cstdint>

#include "base/platform.hpp"

namespace comet {

/// Ids travel between ranks as 16 bits; this one marks a dropped choice.
inline constexpr std::uint16_t kDroppedId = 0xffff;

/// Largest topk, the size of per-token scratch.
inline constexpr int kMaxTopk = 32;

/// The routing of one call as seen by rank `rank`. Ids are checked: each is kDroppedId or < E.
struct PlanProblem {
  std::int32_t world = 1;
  std::int32_t rank = 0;
  std::int32_t tp = 1;
  std::int32_t topk = 1;
  std::int32_t num_local = 0;  ///< Experts of this rank.
  std::int32_t block_m = 1;    ///< Rows of a tile.
  std::int32_t groups = 1;
  const std::int32_t* ep_rank_of = nullptr;   ///< [E] EP rank that owns the expert.
  const std::int32_t* local_of = nullptr;     ///< [E] its index there.
  const std::int32_t* tokens = nullptr;       ///< [world]
  const std::uint16_t* const* ids = nullptr;  ///< [world] -> [tokens, topk]
};

/// Local index of the expert that a choice goes to on this rank, or -1.
COMET_HOST_DEVICE inline std::int32_t local_expert_of(const PlanProblem& problem,
                                                      std::uint16_t id) {
  if (id == kDroppedId) return -1;
  const std::int32_t owner = problem.ep_rank_of[id];
  const std::int32_t index = problem.local_of[id];  // on a GPU both loads are on their way at once
  return owner == problem.rank / problem.tp ? index : -1;
}

/// Sources are visited starting at the rank's own, so that each rank begins elsewhere and no link
/// is hot; step 0 is the rank itself.
COMET_HOST_DEVICE inline std::int32_t source_at_step(const PlanProblem& problem,
                                                     std::int32_t step) {
  return (problem.rank + step) % problem.world;
}

/// EP ranks that own an expert of the token with choices `ids` [topk], ascending and distinct, to
/// `ep_ranks` [topk]; returns how many. The token is sent once to each of their TP ranks.
COMET_HOST_DEVICE inline std::int32_t token_ep_ranks(const PlanProblem& problem,
                                                     const std::uint16_t* ids,
                                                     std::int32_t* ep_ranks) {
  std::int32_t count = 0;
  for (std::int32_t k = 0; k < problem.topk; ++k) {
    if (ids[k] == kDroppedId) continue;
    const std::int32_t owner = problem.ep_rank_of[ids[k]];
    std::int32_t at = count;
    while (at > 0 && ep_ranks[at - 1] > owner) --at;
    if (at > 0 && ep_ranks[at - 1] == owner) continue;
    for (std::int32_t i = count; i > at; --i) ep_ranks[i] = ep_ranks[i - 1];
    ep_ranks[at] = owner;
    ++count;
  }
  return count;
}

}  // namespace comet
