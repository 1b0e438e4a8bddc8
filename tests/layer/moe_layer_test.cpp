// SPDX-License-Identifier: Apache-2.0
// What creating a layer refuses. What layers compute is judged in tests/conformance.
#include <gtest/gtest.h>

#include <array>

#include "comet/error.hpp"
#include "comet/layer.hpp"

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

}  // namespace
}  // namespace comet
