// SPDX-License-Identifier: Apache-2.0
// Router rules against values worked out by hand, and against a slow independent statement of each
// rule on random logits.
#include "comet/router.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "comet/error.hpp"

namespace comet {
namespace {

using Ids = std::vector<std::int32_t>;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

void expect_near(const std::vector<float>& values, const std::vector<double>& expected) {
  ASSERT_EQ(values.size(), expected.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_NEAR(values[i], expected[i], 1e-6 * std::abs(expected[i])) << "at " << i;
  }
}

// Runs `call`, which must throw, and gives back the Error.
Error error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no Error was thrown";
  return {ErrorCode::internal, ""};
}

// Logits whose softmax is 1/8, 2/8, 4/8, 1/8.
std::vector<float> eighths() { return {0.0F, std::log(2.0F), std::log(4.0F), 0.0F}; }

TEST(Router, SoftmaxOverAllExpertsThenTopk) {
  RouterDesc desc{.num_experts = 4, .topk = 2, .renormalize = false};
  const Routing plain = route(desc, eighths().data(), 1);
  EXPECT_EQ(plain.ids, (Ids{2, 1}));
  expect_near(plain.weights, {0.5, 0.25});

  desc.renormalize = true;
  expect_near(route(desc, eighths().data(), 1).weights, {2.0 / 3, 1.0 / 3});
  desc.scale = 2.5;
  expect_near(route(desc, eighths().data(), 1).weights, {5.0 / 3, 2.5 / 3});
}

TEST(Router, TiesGoToTheLowerId) {
  const std::vector<float> logits{1, 3, 3, 1, 3};
  for (const Scoring scoring : {Scoring::softmax, Scoring::sigmoid}) {
    const RouterDesc desc{.num_experts = 5, .topk = 4, .scoring = scoring};
    EXPECT_EQ(route(desc, logits.data(), 1).ids, (Ids{1, 2, 4, 0})) << to_string(scoring);
  }
  const RouterDesc mixer{.num_experts = 5, .topk = 2, .scoring = Scoring::sparsemixer};
  EXPECT_EQ(route(mixer, logits.data(), 1).ids, (Ids{1, 2}));
}

TEST(Router, LargeAndMaskedLogitsStayFinite) {
  const std::vector<float> logits{1000, -kInf, 999, -1000};
  const RouterDesc desc{.num_experts = 4, .topk = 4, .renormalize = false};
  const Routing routing = route(desc, logits.data(), 1);
  EXPECT_EQ(routing.ids, (Ids{0, 2, 1, 3}));
  const double first = 1 / (1 + std::exp(-1.0));
  expect_near(routing.weights, {first, 1 - first, 0, 0});
}

TEST(Router, SigmoidBiasChangesTheChoiceButNotTheWeights) {
  const float ln3 = std::log(3.0F);
  const std::vector<float> logits{0, ln3, -ln3, 0};  // scores 0.5, 0.75, 0.25, 0.5
  const std::vector<float> bias{0, -1, 1, 0};
  RouterDesc desc{.num_experts = 4, .topk = 2, .scoring = Scoring::sigmoid, .renormalize = false};
  const Routing routing = route(desc, logits.data(), 1, bias.data());
  EXPECT_EQ(routing.ids, (Ids{2, 0}));
  expect_near(routing.weights, {0.25, 0.5});
  EXPECT_EQ(route(desc, logits.data(), 1).ids, (Ids{1, 0}));

  desc.renormalize = true;
  desc.scale = 3;
  expect_near(route(desc, logits.data(), 1, bias.data()).weights, {1, 2});
}

TEST(Router, GroupsAreScoredByTheirBestOrTheirBestTwo) {
  // Group 0 holds the best expert, group 1 the better pair.
  const std::vector<float> logits{2, -2, -2, 1, 1, -2};
  RouterDesc desc{.num_experts = 6, .topk = 2, .num_groups = 2, .topk_groups = 1};
  EXPECT_EQ(route(desc, logits.data(), 1).ids, (Ids{0, 1}));
  desc.scoring = Scoring::sigmoid;
  EXPECT_EQ(route(desc, logits.data(), 1).ids, (Ids{3, 4}));
  // The bias takes part in the group's score.
  const std::vector<float> bias{0, 1, 0, 0, 0, 0};
  EXPECT_EQ(route(desc, logits.data(), 1, bias.data()).ids, (Ids{1, 0}));
  desc.topk_groups = 2;
  EXPECT_EQ(route(desc, logits.data(), 1).ids, (Ids{0, 3}));
}

TEST(Router, SparsemixerWeighsEachChoiceAmongItsNeighbours) {
  const RouterDesc desc{.num_experts = 4, .topk = 2, .scoring = Scoring::sparsemixer};
  const std::vector<float> logits{
      1.0F,  0.99F,  0.5F,    -1.0F,  // 1 is close to 0; nobody is close to 1 then
      -1.0F, -1.01F, -1.015F, -2.0F,  // negative best: distances are relative to |logit|
      0.0F,  -1.0F,  0.0F,    -1.0F,  // 0 / 0 counts as close
      8.0F,  1.0F,   4.0F,    2.0F,   // all far
  };
  const Routing routing = route(desc, logits.data(), 4);
  EXPECT_EQ(routing.ids, (Ids{0, 1, 0, 1, 0, 2, 0, 2}));
  expect_near(routing.weights, {1 / (1 + std::exp(0.99F - 1.0)), 1,
                                1 / (1 + std::exp(-1.01F + 1.0) + std::exp(-1.015F + 1.0)),
                                1 / (1 + std::exp(-1.015F + 1.01F)), 0.5, 1, 1, 1});
}

TEST(Router, CapacityDropsInTokenOrderThenChoiceOrder) {
  // Choices: (0, 1), (1, 0), (1, 2). Token 0's second choice comes before token 1's first.
  const std::vector<float> logits{3, 2, 1, 2, 3, 1, 1, 3, 2};
  RouterDesc desc{.num_experts = 3, .topk = 2, .capacity = 1};
  const Routing one = route(desc, logits.data(), 3);
  EXPECT_EQ(one.ids, (Ids{0, 1, -1, -1, -1, 2}));
  EXPECT_EQ(one.dropped, 3);
  const float second = 1 / (1 + std::exp(1.0F));  // weights that stay are not rescaled
  expect_near(one.weights, {1 - second, second, 0, 0, 0, second});

  desc.capacity = 2;
  const Routing two = route(desc, logits.data(), 3);
  EXPECT_EQ(two.ids, (Ids{0, 1, 1, 0, -1, 2}));
  EXPECT_EQ(two.dropped, 1);

  desc.capacity = 0;
  EXPECT_EQ(route(desc, logits.data(), 3).dropped, 0);
}

TEST(Router, NoTokensGiveAnEmptyRouting) {
  const Routing routing = route({.num_experts = 4, .topk = 2}, nullptr, 0);
  EXPECT_EQ(routing.tokens, 0);
  EXPECT_EQ(routing.topk, 2);
  EXPECT_TRUE(routing.ids.empty() && routing.weights.empty());
}

// The rules of softmax and sigmoid routers stated slowly: whole sorts, in double.
struct Oracle {
  const RouterDesc& desc;
  const std::vector<float>& bias;

  std::vector<double> scores(const float* logits) const {
    std::vector<double> result(logits, logits + desc.num_experts);
    double sum = 0;
    for (double& value : result) {
      value = desc.scoring == Scoring::sigmoid ? 1 / (1 + std::exp(-value)) : std::exp(value);
      sum += value;
    }
    if (desc.scoring == Scoring::softmax) {
      for (double& value : result) value /= sum;
    }
    return result;
  }

  std::vector<std::int64_t> eligible(const std::vector<double>& choice) const {
    const std::int64_t size = desc.num_experts / desc.num_groups;
    std::vector<std::pair<double, std::int64_t>> groups;
    for (std::int64_t g = 0; g < desc.num_groups; ++g) {
      std::vector<double> members(choice.begin() + g * size, choice.begin() + (g + 1) * size);
      std::ranges::sort(members, std::greater<>());
      const bool two = desc.scoring == Scoring::sigmoid && size > 1;
      groups.emplace_back(-(members[0] + (two ? members[1] : 0)), g);
    }
    std::ranges::sort(groups);
    std::vector<std::int64_t> experts;
    for (std::int64_t g = 0; g < desc.topk_groups; ++g) {
      for (std::int64_t e = 0; e < size; ++e) experts.push_back(groups[g].second * size + e);
    }
    return experts;
  }

  void expect_token(const float* logits, const std::int32_t* ids, const float* weights) const {
    const std::vector<double> score = scores(logits);
    std::vector<double> choice = score;
    for (std::size_t e = 0; e < bias.size(); ++e) choice[e] += bias[e];
    std::vector<std::int64_t> experts = eligible(choice);
    std::ranges::sort(experts, std::greater<>(), [&](std::int64_t e) { return choice[e]; });
    double sum = 1;
    if (desc.renormalize) {
      sum = 0;
      for (std::int64_t k = 0; k < desc.topk; ++k) sum += score[experts[k]];
    }
    for (std::int64_t k = 0; k < desc.topk; ++k) {
      ASSERT_EQ(ids[k], experts[k]) << "choice " << k;
      const double expected = score[experts[k]] / sum * desc.scale;
      ASSERT_NEAR(weights[k], expected, 2e-6 * expected) << "choice " << k;
    }
  }
};

void compare_with_oracle(const RouterDesc& desc, bool with_bias) {
  constexpr std::int64_t kTokens = 200;
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(kTokens * desc.num_experts);
  for (float& logit : logits) logit = normal(random);
  std::vector<float> bias(with_bias ? desc.num_experts : 0);
  for (float& value : bias) value = 0.1F * normal(random);
  const Routing routing = route(desc, logits.data(), kTokens, with_bias ? bias.data() : nullptr);
  const Oracle oracle{desc, bias};
  for (std::int64_t t = 0; t < kTokens; ++t) {
    SCOPED_TRACE("token " + std::to_string(t));
    const std::int32_t* ids = routing.ids.data() + t * desc.topk;
    const float* weights = routing.weights.data() + t * desc.topk;
    EXPECT_EQ(std::set(ids, ids + desc.topk).size(), static_cast<std::size_t>(desc.topk));
    if (desc.renormalize) {
      EXPECT_NEAR(std::accumulate(weights, weights + desc.topk, 0.0), desc.scale,
                  1e-6 * desc.scale);
    }
    oracle.expect_token(logits.data() + t * desc.num_experts, ids, weights);
  }
}

TEST(Router, RandomLogitsAgreeWithAWholeSort) {
  for (const Scoring scoring : {Scoring::softmax, Scoring::sigmoid}) {
    for (const bool renormalize : {false, true}) {
      for (const bool with_bias : {false, true}) {
        SCOPED_TRACE(std::string(to_string(scoring)) + (with_bias ? " with bias" : ""));
        RouterDesc desc{
            .num_experts = 64, .topk = 6, .scoring = scoring, .renormalize = renormalize};
        compare_with_oracle(desc, with_bias);
        desc.scale = 16;
        desc.num_groups = 8;
        desc.topk_groups = 3;
        compare_with_oracle(desc, with_bias);
        desc.num_groups = 64;  // groups of one expert
        desc.topk_groups = 6;
        compare_with_oracle(desc, with_bias);
      }
    }
  }
}

TEST(Router, RefusesLogitsWithoutAnOrder) {
  std::vector<float> logits(3 * 4, 1.0F);
  logits[2 * 4 + 1] = kNan;
  for (const Scoring scoring : {Scoring::softmax, Scoring::sigmoid, Scoring::sparsemixer}) {
    const RouterDesc desc{.num_experts = 4, .topk = 2, .scoring = scoring};
    const Error error = error_of([&] { route(desc, logits.data(), 3); });
    EXPECT_EQ(error.code(), ErrorCode::out_of_range);
    EXPECT_NE(std::string(error.what()).find("token 2 for expert 1"), std::string::npos)
        << error.what();
    EXPECT_NO_THROW(route(desc, logits.data(), 2));
  }
  const auto refused = [](Scoring scoring, std::vector<float> row) {
    const RouterDesc desc{.num_experts = 4, .topk = 2, .scoring = scoring};
    EXPECT_EQ(error_of([&] { route(desc, row.data(), 1); }).code(), ErrorCode::out_of_range);
  };
  refused(Scoring::softmax, {0, kInf, 0, 0});
  refused(Scoring::softmax, {-kInf, -kInf, -kInf, -kInf});
  refused(Scoring::sparsemixer, {0, kInf, 0, 0});
  refused(Scoring::sparsemixer, {-kInf, 0, -kInf, -kInf});
}

TEST(Router, RefusesRulesThatNoCallCanAccept) {
  const auto refused = [](auto change, const std::string& word) {
    RouterDesc desc{.num_experts = 8, .topk = 2};
    validate(desc);
    change(desc);
    const Error error = error_of([&] { validate(desc); });
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
  };
  refused([](RouterDesc& d) { d.num_experts = 0; }, "num_experts: 0");
  refused([](RouterDesc& d) { d.num_experts = 65535; }, "num_experts: 65535");
  refused([](RouterDesc& d) { d.topk = 0; }, "topk: 0");
  refused([](RouterDesc& d) { d.topk = 9; }, "topk: 9");
  refused([](RouterDesc& d) { d.num_experts = 64, d.topk = 33; }, "topk: 33");
  refused([](RouterDesc& d) { d.num_groups = 3; }, "num_groups: 3");
  refused([](RouterDesc& d) { d.num_groups = 0; }, "num_groups: 0");
  refused([](RouterDesc& d) { d.topk_groups = 2; }, "topk_groups: 2");
  refused([](RouterDesc& d) { d.topk = 3, d.num_groups = 4; }, "topk: 3");
  refused([](RouterDesc& d) { d.scale = 0; }, "scale: 0");
  refused([](RouterDesc& d) { d.scale = 1e300; }, "scale: 1e+300");
  refused([](RouterDesc& d) { d.scale = std::nan(""); }, "scale: nan");
  refused([](RouterDesc& d) { d.capacity = -1; }, "capacity: -1");
  const auto mixer = [](RouterDesc& d) { d.scoring = Scoring::sparsemixer; };
  refused([&](RouterDesc& d) { mixer(d), d.topk = 1; }, "topk: 1");
  refused([&](RouterDesc& d) { mixer(d), d.num_groups = 2; }, "num_groups: 2");
  refused([&](RouterDesc& d) { mixer(d), d.jitter_eps = -0.5; }, "jitter_eps: -0.5");
}

TEST(Router, RefusesArgumentsThatNoCallCanAccept) {
  const std::vector<float> logits(4, 0.0F);
  const std::vector<float> bias{0, 0, kNan, 0};
  RouterDesc desc{.num_experts = 4, .topk = 2};
  const auto code = [&](const float* rows, std::int64_t tokens, const float* added) {
    return error_of([&] { route(desc, rows, tokens, added); }).code();
  };
  EXPECT_EQ(code(logits.data(), -1, nullptr), ErrorCode::invalid_argument);
  EXPECT_EQ(code(nullptr, 1, nullptr), ErrorCode::invalid_argument);
  EXPECT_EQ(code(logits.data(), 1, bias.data()), ErrorCode::out_of_range);
  EXPECT_EQ(code(logits.data(), std::int64_t{1} << 60, nullptr), ErrorCode::invalid_argument);
  desc.scoring = Scoring::sparsemixer;
  EXPECT_EQ(code(logits.data(), 1, logits.data()), ErrorCode::invalid_argument);
}

TEST(Router, ScoringNamesRoundTrip) {
  for (const Scoring scoring : {Scoring::softmax, Scoring::sigmoid, Scoring::sparsemixer}) {
    EXPECT_EQ(parse_scoring(to_string(scoring)), scoring);
  }
  const Error error = error_of([] { parse_scoring("Softmax"); });
  EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
  EXPECT_NE(std::string(error.what()).find("softmax, sigmoid, sparsemixer"), std::string::npos);
}

}  // namespace
}  // namespace comet
