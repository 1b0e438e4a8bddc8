// SPDX-License-Identifier: Apache-2.0
// Made-up routings: who goes where by the asked distribution, with positive weights that sum to 1.
// Integers and correctly rounded arithmetic decide, so every machine draws the same.
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>
#include <span>
#include <vector>

#include "base/check.hpp"
#include "base/int_math.hpp"
#include "comet/router.hpp"
#include "routing/inclusion.hpp"
#include "routing/inclusion_draw.hpp"
#include "routing/limits.hpp"
#include "routing/random.hpp"

namespace comet {
namespace {

using Kind = SyntheticRouting::Kind;

// Draws without putting back, and starts anew with the whole pool when it is used up.
class Pool {
 public:
  Pool(std::int64_t expert_begin, std::int64_t expert_end) : experts_(expert_end - expert_begin) {
    std::iota(experts_.begin(), experts_.end(), static_cast<std::int32_t>(expert_begin));
  }

  void draw(std::span<std::int32_t> ids, PortableRandom& random) {
    const auto size = static_cast<std::int64_t>(experts_.size());
    for (std::size_t k = 0; k < ids.size(); ++k) {
      // The pool's front is what this round has drawn; its order does not bias later rounds.
      const std::int64_t drawn = static_cast<std::int64_t>(k) % size;
      std::swap(experts_[drawn], experts_[drawn + random.below(size - drawn)]);
      ids[k] = experts_[drawn];
    }
  }

 private:
  std::vector<std::int32_t> experts_;
};

void check_arguments(const SyntheticRouting& kind, std::int64_t num_experts, std::int64_t topk,
                     std::int64_t tokens) {
  using enum ErrorCode;
  check(num_experts >= 1 && num_experts <= kMaxRoutedExperts, invalid_argument,
        "[routing] num_experts: {}, allowed 1 to {}", num_experts, kMaxRoutedExperts);
  check(topk >= 1 && topk <= kMaxRoutedTopk, invalid_argument,
        "[routing] topk: {}, allowed 1 to {}", topk, kMaxRoutedTopk);
  check(tokens >= 0 && tokens <= kMaxDrawnTokens, invalid_argument,
        "[routing] tokens: {}, allowed 0 to {}", tokens, kMaxDrawnTokens);
  check(std::isfinite(kind.parameter) && kind.parameter >= 0, invalid_argument,
        "[routing] parameter: {}, allowed is a finite number of at least 0", kind.parameter);
}

// Inclusion probabilities of the `choices` choices that are left of topk once every token has taken
// every expert as often as topk allows; those whole rounds add nothing to the deviation.
std::vector<double> inclusion_of(const SyntheticRouting& kind, std::int64_t num_experts,
                                 std::int64_t topk, std::int64_t choices) {
  if (kind.kind == Kind::zipf) return zipf_inclusion(num_experts, choices, kind.parameter);
  const auto total = static_cast<double>(topk);
  const double max_std = max_inclusion_std(num_experts, choices) / total;
  check(kind.parameter <= max_std, ErrorCode::invalid_argument,
        "[routing] std: {}, allowed at most {:.6g} with {} distinct choices of {} experts",
        kind.parameter, max_std, topk, num_experts);
  return spread_inclusion(num_experts, choices, kind.parameter * total);
}

void fill_by_inclusion(const SyntheticRouting& kind, std::int64_t num_experts,
                       PortableRandom& random, Routing& routing) {
  const std::int64_t choices = routing.topk % num_experts;
  const std::int64_t repeated = routing.topk - choices;
  const std::vector<double> inclusion = inclusion_of(kind, num_experts, routing.topk, choices);
  const std::vector<std::int32_t> drawn =
      draw_by_inclusion(inclusion, choices, routing.tokens, random);
  Pool everyone(0, num_experts);
  const std::span<std::int32_t> ids(routing.ids);
  for (std::int64_t t = 0; t < routing.tokens; ++t) {
    const auto row = ids.subspan(t * routing.topk, routing.topk);
    everyone.draw(row.first(repeated), random);
    std::ranges::copy(std::span(drawn).subspan(t * choices, choices), row.begin() + repeated);
  }
}

// The first `fixed` choices are expert 0, the others come from the pool.
void fill_from_pool(Pool pool, std::int64_t fixed, PortableRandom& random, Routing& routing) {
  const std::span<std::int32_t> ids(routing.ids);
  for (std::int64_t t = 0; t < routing.tokens; ++t) {
    const auto row = ids.subspan(t * routing.topk, routing.topk);
    std::ranges::fill(row.first(fixed), 0);
    pool.draw(row.subspan(fixed), random);
  }
}

// Falling weights, none below a seventh of its token's largest: whole numbers over their sum.
void fill_weights(PortableRandom& random, Routing& routing) {
  std::array<std::int64_t, kMaxRoutedTopk> parts{};
  const auto used = std::span(parts).first(routing.topk);
  for (std::int64_t t = 0; t < routing.tokens; ++t) {
    for (std::int64_t& part : used) part = 1024 + random.below(6 * 1024);
    std::ranges::sort(used, std::greater<>());
    const auto sum =
        static_cast<double>(std::accumulate(used.begin(), used.end(), std::int64_t{0}));
    for (std::int64_t k = 0; k < routing.topk; ++k) {
      routing.weights[t * routing.topk + k] =
          static_cast<float>(static_cast<double>(used[k]) / sum);
    }
  }
}

}  // namespace

Routing make_routing(const SyntheticRouting& kind, std::int64_t num_experts, std::int64_t topk,
                     std::int64_t tokens, std::uint64_t seed) {
  check_arguments(kind, num_experts, topk, tokens);
  Routing routing;
  routing.tokens = tokens;
  routing.topk = topk;
  routing.ids.resize(tokens * topk);
  routing.weights.resize(tokens * topk);
  PortableRandom random(seed);
  switch (kind.kind) {
    case Kind::uniform:
      fill_from_pool(Pool(0, num_experts), 0, random, routing);
      break;
    case Kind::hot:
      // With one expert it is also all others.
      fill_from_pool(Pool(num_experts > 1 ? 1 : 0, num_experts), 1, random, routing);
      break;
    case Kind::empty:
      fill_from_pool(Pool(0, ceil_div(num_experts, 2)), 0, random, routing);
      break;
    case Kind::spread:
    case Kind::zipf:
      fill_by_inclusion(kind, num_experts, random, routing);
      break;
  }
  fill_weights(random, routing);
  return routing;
}

}  // namespace comet
