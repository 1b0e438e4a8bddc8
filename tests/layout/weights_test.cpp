// SPDX-License-Identifier: Apache-2.0
#include "comet/weights.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace comet {
namespace {

constexpr std::int64_t kInter = 3;
constexpr std::int64_t kHidden = 2;

// First element of row `row` of expert `e`, as an index into the float buffer at `base`.
std::ptrdiff_t element(const ExpertMatrices& matrices, const float* base, std::int64_t e,
                       std::int64_t row) {
  return static_cast<const float*>(matrices.expert(e, DType::f32)) + row * matrices.row_stride -
         base;
}

TEST(Weights, FusedLayoutsPointAtTheirRows) {
  const std::vector<float> w13(2 * 2 * kInter * kHidden);
  const std::vector<float> w2(2 * kHidden * kInter);
  const auto view = [&](GateLayout layout) {
    return fused_weights(w13.data(), w2.data(), layout, kInter, kHidden);
  };
  const MoeWeights gate_up = view(GateLayout::gate_up);
  EXPECT_EQ(element(gate_up.gate, w13.data(), 1, 2), 12 + 4);
  EXPECT_EQ(element(gate_up.up, w13.data(), 1, 2), 12 + 6 + 4);
  EXPECT_EQ(element(gate_up.down, w2.data(), 1, 1), 6 + 3);
  const MoeWeights up_gate = view(GateLayout::up_gate);
  EXPECT_EQ(element(up_gate.gate, w13.data(), 0, 0), 6);
  EXPECT_EQ(element(up_gate.up, w13.data(), 0, 0), 0);
  const MoeWeights interleaved = view(GateLayout::interleaved);
  EXPECT_EQ(element(interleaved.gate, w13.data(), 1, 1), 12 + 4);
  EXPECT_EQ(element(interleaved.up, w13.data(), 1, 1), 12 + 6);
  const MoeWeights none = view(GateLayout::none);
  EXPECT_TRUE(none.gate.empty());
  EXPECT_EQ(element(none.up, w13.data(), 1, 1), 6 + 2);
}

TEST(Weights, ListsPointIntoEachMatrix) {
  const std::vector<float> a(12), b(12), down(6);
  const void* w13[] = {a.data(), b.data()};
  const void* w2[] = {down.data(), down.data()};
  const MoeWeights weights = listed_weights(w13, w2, GateLayout::gate_up, kInter, kHidden);
  EXPECT_EQ(element(weights.gate, b.data(), 1, 1), 2);
  EXPECT_EQ(element(weights.up, a.data(), 0, 1), 6 + 2);
}

}  // namespace
}  // namespace comet
