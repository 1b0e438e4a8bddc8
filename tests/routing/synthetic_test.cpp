// SPDX-License-Identifier: Apache-2.0
// Synthetic routings: their loads, their distinctness, and that they are the same everywhere.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "comet/error.hpp"
#include "comet/router.hpp"
#include "routing/random.hpp"

namespace comet {
namespace {

using Kind = SyntheticRouting::Kind;

std::vector<double> shares_of(const Routing& routing, std::int64_t num_experts) {
  std::vector<double> shares(num_experts);
  for (const std::int32_t id : routing.ids) {
    shares.at(id) += 1 / static_cast<double>(routing.ids.size());
  }
  return shares;
}

double std_of(const std::vector<double>& shares) {
  const double mean = 1 / static_cast<double>(shares.size());
  double squares = 0;
  for (const double share : shares) squares += (share - mean) * (share - mean);
  return std::sqrt(squares / static_cast<double>(shares.size()));
}

// What every routing owes: sizes, ids in range and as distinct as `available` experts allow, and
// positive falling weights with the sum 1.
void expect_sound(const Routing& routing, std::int64_t num_experts, std::int64_t available) {
  const std::int64_t topk = routing.topk;
  ASSERT_EQ(static_cast<std::int64_t>(routing.ids.size()), routing.tokens * topk);
  ASSERT_EQ(routing.weights.size(), routing.ids.size());
  EXPECT_EQ(routing.dropped, 0);
  for (std::int64_t t = 0; t < routing.tokens; ++t) {
    const std::int32_t* ids = routing.ids.data() + t * topk;
    const float* weights = routing.weights.data() + t * topk;
    const std::set<std::int32_t> distinct(ids, ids + topk);
    ASSERT_EQ(static_cast<std::int64_t>(distinct.size()), std::min(topk, available))
        << "token " << t;
    ASSERT_GE(*distinct.begin(), 0);
    ASSERT_LT(*distinct.rbegin(), num_experts);
    ASSERT_GT(weights[topk - 1], 0);
    ASSERT_TRUE(std::is_sorted(weights, weights + topk, std::greater<>()));
    ASSERT_NEAR(std::accumulate(weights, weights + topk, 0.0), 1, 1e-6);
  }
}

TEST(Synthetic, EveryKindIsSoundInEverySize) {
  for (const std::string_view text : {"uniform", "std:0", "zipf:1.2", "zipf:50", "hot", "empty"}) {
    for (const std::int64_t num_experts : {1, 2, 7, 64}) {
      for (const std::int64_t topk : {1, 2, 6, 32}) {
        for (const std::int64_t tokens : {0, 1, 3, 200}) {
          SCOPED_TRACE(std::string(text) + " E " + std::to_string(num_experts) + " K " +
                       std::to_string(topk) + " T " + std::to_string(tokens));
          const Routing routing =
              make_routing(parse_synthetic_routing(text), num_experts, topk, tokens, 5);
          const bool half = text == "empty";
          expect_sound(routing, num_experts, half ? (num_experts + 1) / 2 : num_experts);
        }
      }
    }
  }
}

TEST(Synthetic, SpreadHasTheAskedDeviation) {
  for (const std::int64_t num_experts : {8, 64}) {
    for (const std::int64_t topk : {2, 4}) {
      for (const double target : {0.0, 0.01, 0.02, 0.032, 0.05}) {
        SCOPED_TRACE(std::to_string(num_experts) + " experts, topk " + std::to_string(topk) +
                     ", std " + std::to_string(target));
        const Routing routing = make_routing({Kind::spread, target}, num_experts, topk, 20000, 11);
        expect_sound(routing, num_experts, num_experts);
        EXPECT_NEAR(std_of(shares_of(routing, num_experts)), target, 0.01 * target + 1e-5);
      }
    }
  }
}

TEST(Synthetic, SpreadHoldsWithFewTokensAndRepeats) {
  EXPECT_NEAR(std_of(shares_of(make_routing({Kind::spread, 0.032}, 8, 2, 256, 3), 8)), 0.032, 1e-3);
  // Six choices of four experts: four go to all, two carry the whole deviation.
  EXPECT_NEAR(std_of(shares_of(make_routing({Kind::spread, 0.05}, 4, 6, 3000, 3), 4)), 0.05, 1e-3);
}

TEST(Synthetic, SpreadReachesItsLargestDeviationAndNoMore) {
  // Largest: two of eight experts share everything; shares 1/2, 1/2, 0, ...
  const double largest = std::sqrt(0.25 * 0.75) / 2;
  const Routing routing = make_routing({Kind::spread, 0.9999 * largest}, 8, 2, 4000, 1);
  EXPECT_NEAR(std_of(shares_of(routing, 8)), largest, 1e-3);
  try {
    make_routing({Kind::spread, 0.22}, 8, 2, 10, 1);
    ADD_FAILURE() << "0.22 was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_NE(std::string(error.what()).find("std: 0.22, allowed at most 0.216506"),
              std::string::npos)
        << error.what();
  }
  EXPECT_THROW(make_routing({Kind::spread, 0.01}, 4, 4, 10, 1), Error);
}

TEST(Synthetic, SpreadHasTheSameHotExpertsForEverySeed) {
  const auto first = shares_of(make_routing({Kind::spread, 0.05}, 8, 2, 20000, 1), 8);
  const auto second = shares_of(make_routing({Kind::spread, 0.05}, 8, 2, 20000, 2), 8);
  for (std::size_t e = 0; e < 8; ++e) EXPECT_NEAR(first[e], second[e], 1e-4) << "expert " << e;
}

TEST(Synthetic, UniformLoadsAndPairsAreEven) {
  for (const std::string_view text : {"uniform", "std:0"}) {
    constexpr std::int64_t kTokens = 28000;
    const Routing routing = make_routing(parse_synthetic_routing(text), 8, 2, kTokens, 9);
    for (const double share : shares_of(routing, 8)) EXPECT_NEAR(share, 0.125, 0.005) << text;
    // Each of the 56 ordered pairs is drawn 500 times; 5 deviations are 112.
    std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> pairs;
    for (std::int64_t t = 0; t < kTokens; ++t) {
      ++pairs[{routing.ids[2 * t], routing.ids[2 * t + 1]}];
    }
    EXPECT_EQ(pairs.size(), 56U);
    for (const auto& [pair, count] : pairs) {
      EXPECT_NEAR(static_cast<double>(count), 500, 112)
          << text << ": " << pair.first << ", " << pair.second;
    }
  }
}

TEST(Synthetic, LoadsDoNotDriftFromTheFirstTokenToTheLast) {
  // Ranks take consecutive tokens of one routing, so every quarter must show the same loads.
  const Routing routing = make_routing({Kind::spread, 0.05}, 8, 2, 40000, 4);
  const std::vector<double> all = shares_of(routing, 8);
  for (std::int64_t quarter = 0; quarter < 4; ++quarter) {
    Routing part;
    part.ids.assign(routing.ids.begin() + quarter * 20000,
                    routing.ids.begin() + (quarter + 1) * 20000);
    const std::vector<double> shares = shares_of(part, 8);
    for (std::size_t e = 0; e < 8; ++e) EXPECT_NEAR(shares[e], all[e], 0.012) << "expert " << e;
  }
}

TEST(Synthetic, ZipfIsProportionalUpToOneChoicePerToken) {
  const std::vector<double> mild = shares_of(make_routing({Kind::zipf, 1}, 32, 2, 20000, 2), 32);
  for (std::size_t e = 1; e < 32; ++e) {
    EXPECT_NEAR(mild[0] / mild[e], static_cast<double>(e + 1), 0.05 * static_cast<double>(e + 1));
  }
  // Weights 1, 1/4, 1/9, 1/16: with two choices expert 0 is capped at 1, the others share the rest.
  const std::vector<double> steep = shares_of(make_routing({Kind::zipf, 2}, 4, 2, 20000, 2), 4);
  const double rest = 1.0 / 4 + 1.0 / 9 + 1.0 / 16;
  EXPECT_NEAR(steep[0], 0.5, 1e-9);
  EXPECT_NEAR(steep[1], 0.5 / 4 / rest, 1e-4);
  EXPECT_NEAR(steep[2], 0.5 / 9 / rest, 1e-4);
  EXPECT_NEAR(steep[3], 0.5 / 16 / rest, 1e-4);
}

TEST(Synthetic, HotTakesExpertZeroFirst) {
  const Routing routing = make_routing({.kind = Kind::hot}, 8, 3, 7000, 6);
  for (std::int64_t t = 0; t < routing.tokens; ++t) ASSERT_EQ(routing.ids[3 * t], 0);
  const std::vector<double> shares = shares_of(routing, 8);
  for (std::size_t e = 1; e < 8; ++e) EXPECT_NEAR(shares[e], 2.0 / 3 / 7, 0.01) << "expert " << e;
}

TEST(Synthetic, EmptyLeavesTheSecondHalfIdle) {
  const std::vector<double> shares =
      shares_of(make_routing({.kind = Kind::empty}, 8, 2, 4000, 6), 8);
  for (std::size_t e = 0; e < 4; ++e) EXPECT_NEAR(shares[e], 0.25, 0.02) << "expert " << e;
  for (std::size_t e = 4; e < 8; ++e) EXPECT_EQ(shares[e], 0) << "expert " << e;
}

TEST(Synthetic, SeedDecidesEverything) {
  for (const std::string_view text : {"uniform", "std:0.02", "zipf:0.5", "hot", "empty"}) {
    const SyntheticRouting kind = parse_synthetic_routing(text);
    const Routing first = make_routing(kind, 16, 4, 100, 42);
    const Routing same = make_routing(kind, 16, 4, 100, 42);
    EXPECT_EQ(first.ids, same.ids) << text;
    EXPECT_EQ(first.weights, same.weights) << text;
    EXPECT_NE(first.ids, make_routing(kind, 16, 4, 100, 43).ids) << text;
  }
}

// The published first numbers of SplitMix64 with this seed.
TEST(Synthetic, GeneratorIsSplitMix64) {
  PortableRandom random(1234567);
  EXPECT_EQ(random.next(), 6457827717110365317U);
  EXPECT_EQ(random.next(), 3203168211198807973U);
}

// Written down once: a change of these numbers changes every stored benchmark.
TEST(Synthetic, DrawsAreTheSameOnEveryMachine) {
  using Drawn = std::vector<std::int32_t>;
  EXPECT_EQ(make_routing({.kind = Kind::uniform}, 16, 4, 3, 1).ids,
            (Drawn{9, 12, 15, 8, 7, 1, 14, 0, 4, 12, 9, 10}));
  EXPECT_EQ(make_routing({Kind::spread, 0.02}, 16, 4, 3, 1).ids,
            (Drawn{12, 6, 7, 0, 14, 9, 15, 8, 10, 2, 11, 4}));
  EXPECT_EQ(make_routing({Kind::zipf, 1.5}, 16, 4, 3, 1).ids,
            (Drawn{0, 5, 12, 1, 2, 0, 1, 3, 7, 0, 1, 4}));
}

TEST(Synthetic, ParsesEveryKind) {
  EXPECT_EQ(parse_synthetic_routing("uniform").kind, Kind::uniform);
  EXPECT_EQ(parse_synthetic_routing("hot").kind, Kind::hot);
  EXPECT_EQ(parse_synthetic_routing("empty").kind, Kind::empty);
  const SyntheticRouting spread = parse_synthetic_routing("std:0.032");
  EXPECT_EQ(spread.kind, Kind::spread);
  EXPECT_EQ(spread.parameter, 0.032);
  const SyntheticRouting zipf = parse_synthetic_routing("zipf:1.2");
  EXPECT_EQ(zipf.kind, Kind::zipf);
  EXPECT_EQ(zipf.parameter, 1.2);
}

TEST(Synthetic, RefusesWhatItCannotParse) {
  for (const std::string_view text : {"", "Uniform", "uniform:1", "std", "std:", "std:x", "std:-1",
                                      "std:nan", "std:inf", "std:0.1x", "std: 0.1", "zipf",
                                      "zipf:", "zipf:1e999", "zipf:1,2", "hot:", ":1", "skew:1"}) {
    try {
      parse_synthetic_routing(text);
      ADD_FAILURE() << "accepted '" << text << "'";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_EQ(std::string(error.what()).rfind("[routing] ", 0), 0U) << error.what();
    }
  }
}

TEST(Synthetic, RefusesSizesThatNoCallCanAccept) {
  const SyntheticRouting uniform;
  EXPECT_THROW(make_routing(uniform, 0, 1, 1, 0), Error);
  EXPECT_THROW(make_routing(uniform, 65535, 1, 1, 0), Error);
  EXPECT_THROW(make_routing(uniform, 8, 0, 1, 0), Error);
  EXPECT_THROW(make_routing(uniform, 8, 33, 1, 0), Error);
  EXPECT_THROW(make_routing(uniform, 8, 2, -1, 0), Error);
  EXPECT_THROW(make_routing({Kind::zipf, std::nan("")}, 8, 2, 1, 0), Error);
  EXPECT_THROW(make_routing({Kind::zipf, -1}, 8, 2, 1, 0), Error);
}

}  // namespace
}  // namespace comet
