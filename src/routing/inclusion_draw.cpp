// SPDX-License-Identifier: Apache-2.0
// Systematic sampling over all tokens at once, then swaps that keep loads and distinctness.
#include "routing/inclusion_draw.hpp"

#include <algorithm>
#include <cmath>

#include "base/check.hpp"

namespace comet {
namespace {

// One unit of probability. Beyond this grid everything is integers, so that a last-place difference
// between two machines' math libraries vanishes in the rounding.
constexpr std::int64_t kUnit = std::int64_t{1} << 26;

// With 4 passes a slot is proposed for 8 swaps on average, of which at least about a quarter are
// possible when a token takes at most half of the experts: enough to forget the first placement.
constexpr int kSwapPasses = 4;

// The probabilities on the grid, summing to choices x kUnit exactly.
std::vector<std::int64_t> to_units(std::span<const double> inclusion, std::int64_t choices) {
  std::vector<std::int64_t> units(inclusion.size());
  std::int64_t missing = choices * kUnit;
  for (std::size_t e = 0; e < units.size(); ++e) {
    units[e] =
        std::clamp<std::int64_t>(std::llround(inclusion[e] * static_cast<double>(kUnit)), 0, kUnit);
    missing -= units[e];
  }
  // Rounding misses at most half a unit per expert that is neither at 0 nor at 1, so one walk over
  // those experts corrects it.
  for (std::int64_t& unit : units) {
    if (missing == 0) break;
    if (unit == 0 || unit == kUnit) continue;
    const std::int64_t step = missing > 0 ? 1 : -1;
    unit += step;
    missing -= step;
  }
  check_internal(missing == 0, "[routing] inclusion probabilities miss their sum {} by {} units",
                 choices, missing);
  return units;
}

// Lays the experts' choices end to end and deals them to the tokens in turn, column after column:
// an expert has at most `tokens` choices in a row, so no token gets it twice.
std::vector<std::int32_t> deal(std::span<const std::int64_t> units, std::int64_t choices,
                               std::int64_t tokens, PortableRandom& random) {
  std::vector<std::int32_t> ids(tokens * choices);
  std::int64_t walked = random.below(kUnit);
  std::int64_t slot = 0;
  for (std::size_t e = 0; e < units.size(); ++e) {
    walked += tokens * units[e];
    for (; slot < walked / kUnit; ++slot) {
      ids[slot % tokens * choices + slot / tokens] = static_cast<std::int32_t>(e);
    }
  }
  return ids;
}

bool contains(std::span<const std::int32_t> row, std::int32_t id) {
  return std::ranges::find(row, id) != row.end();
}

}  // namespace

std::vector<std::int32_t> draw_by_inclusion(std::span<const double> inclusion, std::int64_t choices,
                                            std::int64_t tokens, PortableRandom& random) {
  check_internal(tokens <= kMaxDrawnTokens, "[routing] {} tokens in one drawing, at most {}",
                 tokens, kMaxDrawnTokens);
  if (tokens == 0 || choices == 0) return {};
  std::vector<std::int32_t> ids = deal(to_units(inclusion, choices), choices, tokens, random);
  const auto row = [&](std::int64_t token) {
    return std::span(ids).subspan(token * choices, choices);
  };
  for (std::int64_t t = tokens - 1; t > 0; --t) {
    std::ranges::swap_ranges(row(t), row(random.below(t + 1)));
  }
  for (int pass = 0; pass < kSwapPasses; ++pass) {
    for (std::int64_t slot = 0; slot < tokens * choices; ++slot) {
      const auto here = row(slot / choices);
      const auto there = row(random.below(tokens));
      std::int32_t& mine = here[slot % choices];
      std::int32_t& theirs = there[random.below(choices)];
      if (!contains(there, mine) && !contains(here, theirs)) std::swap(mine, theirs);
    }
  }
  for (std::int64_t t = 0; t < tokens; ++t) random.shuffle(row(t));
  return ids;
}

}  // namespace comet
