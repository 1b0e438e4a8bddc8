// SPDX-License-Identifier: Apache-2.0
// What creating a layer refuses. What layers compute is judged in tests/conformance.
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "comet/error.hpp"
#include "comet/layer.hpp"
#include "comet/router.hpp"

namespace comet {
namespace {

TEST(MoeLayer, RefusesHalfNumbersOnAllRanksAndLeavesTheWorldGood) {
  // Rank 1 has no experts.
  const MoeDesc desc{.num_experts = 2,
                     .topk = 1,
                     .hidden = 16,
                     .intermediate = 16,
                     .max_tokens = 4,
                     .dtype = DType::f16,
                     .expert_owner = {0, 0}};
  const std::vector<f16> w13(2 * 2 * 16 * 16), w2(2 * 16 * 16);
  const MoeWeights weights =
      fused_weights(w13.data(), w2.data(), GateLayout::gate_up, desc.intermediate, desc.hidden);
  std::array<std::string, 2> sentences;
  run_local_world(2, {}, [&](World& world) {
    try {
      MoeLayer::create(desc, {.ep = 2}, weights, world, {});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::unsupported);
      sentences[world.rank()] = error.what();
    }
    world.barrier();
  });
  for (const std::string& sentence : sentences) {
    EXPECT_EQ(sentence, "[layer] dtype f16: layers on cpu run in f32 or bf16");
  }
}

// Whatever is chosen for what a call leaves open, the bits are those of one group.
TEST(MoeLayer, ChoosesWhatACallLeavesOpenWithoutChangingItsBits) {
  constexpr std::int64_t kTokens = 1024;
  const MoeDesc desc{
      .num_experts = 2, .topk = 1, .hidden = 64, .intermediate = 512, .max_tokens = kTokens};
  std::vector<float> w13(2 * 2 * 512 * 64), w2(2 * 64 * 512), x(kTokens * 64);
  for (std::size_t i = 0; i < w13.size(); ++i) w13[i] = static_cast<float>(i % 23) / 23 - 0.5F;
  for (std::size_t i = 0; i < w2.size(); ++i) w2[i] = static_cast<float>(i % 29) / 29 - 0.5F;
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 31) / 31 - 0.5F;
  const Routing routing = make_routing({}, 2, 1, kTokens, 1);
  const MoeWeights weights =
      fused_weights(w13.data(), w2.data(), GateLayout::gate_up, desc.intermediate, desc.hidden);
  // So slow a link, at which the model wants several groups.
  run_local_world(2, {.link = parse_link("paced:0.04")}, [&](World& world) {
    const auto layer = MoeLayer::create(desc, {.ep = 2}, weights, world, {.num_workers = 1});
    EXPECT_EQ(layer->explain_choice().find("groups 1,"), std::string::npos)
        << layer->explain_choice();
    EXPECT_NE(layer->explain_choice(64).find("PREDICTED"), std::string::npos);
    const auto result_of = [&](const ForwardOptions& options) {
      std::vector<float> y(x.size());
      layer->forward(
          {x.data(), kTokens, 64, 64},
          {.ids = routing.ids.data(), .weights = routing.weights.data(), .tokens = kTokens},
          {y.data(), kTokens, 64, 64}, options);
      return y;
    };
    const std::vector<float> expected = result_of({.groups = 1});
    EXPECT_EQ(layer->check().choices.groups, 1);
    EXPECT_EQ(result_of({}), expected);
    const CallChoices chosen = layer->check().choices;
    EXPECT_GT(chosen.groups, 1);
    EXPECT_GT(chosen.panel, 0);
    EXPECT_GT(chosen.chunk, 0);
    EXPECT_GE(chosen.n_c_dispatch, 0);
    EXPECT_EQ(result_of({.expected_tokens = 100}), expected);
    EXPECT_EQ(result_of({.schedule = Schedule::pipelined}), expected);
  });
}

}  // namespace
}  // namespace comet
