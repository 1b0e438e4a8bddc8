// SPDX-License-Identifier: Apache-2.0
// The oracle against sums done by hand, and its bound: wide enough for an honest engine, narrow
// enough for a wrong one.
#include "check/oracle.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/element.hpp"
#include "check/case_data.hpp"
#include "check/random_case.hpp"
#include "comet/error.hpp"

namespace comet {
namespace {

// E = 2, H = I = 8. Expert e has gate = a_e * identity, up = b_e * identity, down = c_e * identity.
struct Diagonal {
  MoeDesc desc{.num_experts = 2, .topk = 2, .hidden = 8, .intermediate = 8, .max_tokens = 4};
  std::vector<float> gate, up, down;
  std::vector<float> x = std::vector<float>(8, 0.0F);

  Diagonal() {
    gate = matrices(1.0F, 2.0F);
    up = matrices(3.0F, -1.0F);
    down = matrices(0.5F, 4.0F);
    x[0] = 1.0F;
    x[3] = -2.0F;
  }
  static std::vector<float> matrices(float first, float second) {
    std::vector<float> values(2 * 64, 0.0F);
    for (int i = 0; i < 8; ++i) {
      values[i * 9] = first;
      values[64 + i * 9] = second;
    }
    return values;
  }
  OracleResult run(std::vector<std::int32_t> ids, std::vector<float> weights, int tokens = 1,
                   const OracleOptions& options = {}) const {
    return run_oracle(desc, {gate.data(), up.data(), down.data()},
                      {x.data(), tokens, 8, 8, DType::f32},
                      {ids.data(), weights.data(), tokens, IdType::i32}, options);
  }
};

double silu(double v) { return v / (1 + std::exp(-v)); }

TEST(Oracle, SwigluByHand) {
  const OracleResult result = Diagonal().run({0, 1}, {0.25F, 0.5F});
  // Expert 0: 0.5 * silu(x) * 3x; expert 1: 4 * silu(2x) * -x.
  EXPECT_NEAR(result.y[0], 0.25 * 0.5 * silu(1) * 3 + 0.5 * 4 * silu(2) * -1, 1e-14);
  EXPECT_NEAR(result.y[3], 0.25 * 0.5 * silu(-2) * -6 + 0.5 * 4 * silu(-4) * 2, 1e-14);
  EXPECT_EQ(result.y[1], 0.0);
}

TEST(Oracle, ReluAndGeluWithoutGateByHand) {
  Diagonal layer;
  layer.desc.gated = false;
  layer.desc.activation = Activation::relu;
  EXPECT_EQ(layer.run({0, -1}, {1.0F, 9.0F}).y[0], 1.5);
  EXPECT_EQ(layer.run({0, -1}, {1.0F, 9.0F}).y[3], 0.0);
  EXPECT_EQ(layer.run({1, -1}, {1.0F, 9.0F}).y[3], 8.0);
  layer.desc.activation = Activation::gelu;
  // GELU(3) = 1.5 * (1 + erf(3 / sqrt 2)) = 2.99595..., from tables of the normal distribution.
  EXPECT_NEAR(layer.run({0, -1}, {1.0F, 9.0F}).y[0], 0.5 * 3 * 0.9986501019683699, 1e-14);
}

TEST(Oracle, DroppedChoicesCountNothingAndTwiceCountsTwice) {
  const Diagonal layer;
  const double once = layer.run({0, -1}, {0.25F, NAN}).y[0];
  EXPECT_NEAR(once, 0.25 * 1.5 * silu(1), 1e-15);
  EXPECT_NEAR(layer.run({0, 0}, {0.25F, 0.75F}).y[0], 4 * once, 1e-15);
  const OracleResult dropped = layer.run({-1, -1}, {NAN, NAN});
  EXPECT_EQ(dropped.y[0], 0.0);
  EXPECT_LE(dropped.bound[0], 1e-29);
}

TEST(Oracle, RejectsIdsThatAreNoExpert) {
  const Diagonal layer;
  EXPECT_THROW(layer.run({0, 2}, {1.0F, 1.0F}), Error);
  EXPECT_THROW(layer.run({-2, 0}, {1.0F, 1.0F}), Error);
}

TEST(Oracle, WeightPositionMakesNoDifference) {
  Diagonal layer;
  const OracleResult after = layer.run({0, 1}, {0.25F, 0.5F});
  layer.desc.weight_position = WeightPosition::before_down;
  EXPECT_EQ(layer.run({0, 1}, {0.25F, 0.5F}).y, after.y);
}

// The layer with its numbers, which all types have, rounded to T.
template <typename T>
OracleResult run_as(Diagonal layer, DType dtype, const OracleOptions& options = {}) {
  const auto convert = [](const std::vector<float>& values) {
    std::vector<T> result;
    for (const float value : values) result.push_back(from_float<T>(value));
    return result;
  };
  const auto gate = convert(layer.gate), up = convert(layer.up), down = convert(layer.down),
             x = convert(layer.x);
  layer.desc.dtype = dtype;
  const std::int64_t ids[] = {0, 1};
  const float weights[] = {0.25F, 2.0F};
  return run_oracle(layer.desc, {gate.data(), up.data(), down.data()}, {x.data(), 1, 8, 8, dtype},
                    {ids, weights, 1, IdType::i64}, options);
}

TEST(Oracle, EveryTypeReadsTheSameNumbers) {
  const Diagonal layer;
  const OracleResult expected = layer.run({0, 1}, {0.25F, 2.0F});
  const OracleResult of_bf16 = run_as<bf16>(layer, DType::bf16);
  const OracleResult of_f16 = run_as<f16>(layer, DType::f16);
  EXPECT_EQ(of_bf16.y, expected.y);
  EXPECT_EQ(of_f16.y, expected.y);
  EXPECT_GT(of_f16.bound[0], 100 * expected.bound[0]);  // 2^-11 against 2^-24
  EXPECT_GT(of_bf16.bound[0], 7 * of_f16.bound[0]);     // 2^-8 against 2^-11
}

// Rounded rows add u times each weighted product, and what rounding below the normal range costs:
// 2^-25 for each product, twice that where the weight 2 follows.
TEST(Oracle, RowsThatAreRoundedWidenTheBoundByHand) {
  const Diagonal layer;
  const double products = 0.25 * 0.5 * silu(1) * 3 + 2.0 * 4 * silu(2);
  const auto added = [](const OracleResult& rounds, const OracleResult& keeps) {
    EXPECT_EQ(rounds.y, keeps.y);
    return rounds.bound[0] - keeps.bound[0];
  };
  const OracleOptions rounds{.rounds_rows = true};
  EXPECT_NEAR(added(run_as<float>(layer, DType::f32, rounds), run_as<float>(layer, DType::f32)),
              1.05 * 0x1p-24 * products, 1e-13);
  EXPECT_NEAR(added(run_as<bf16>(layer, DType::bf16, rounds), run_as<bf16>(layer, DType::bf16)),
              1.05 * 0x1p-8 * products, 1e-13);
  EXPECT_NEAR(added(run_as<f16>(layer, DType::f16, rounds), run_as<f16>(layer, DType::f16)),
              1.05 * (0x1p-11 * products + 3 * 0x1p-25), 1e-13);
}

// A case of about the size that conformance uses, for the bound.
struct Sample {
  Case c = plain_case(1, 5);
  CaseWeights weights;
  RankCall call;

  explicit Sample(DType dtype, WeightPosition position = WeightPosition::after_down,
                  std::int64_t tp = 1) {
    c.desc = {.num_experts = 5,
              .topk = 3,
              .hidden = 72,
              .intermediate = 96,
              .max_tokens = 24,
              .dtype = dtype,
              .weight_position = position};
    c.pattern = TokenPattern::full;
    c.parallel.tp = tp;
    c.options.resize(static_cast<std::size_t>(tp), c.options[0]);
    weights = make_weights(c);
    call = make_call(c)[0];
  }
  OracleResult run(bool rounds_rows = false, int threads = 1) const {
    return run_oracle(c.desc, weights.oracle(), call.x_view(), call.routing_view(),
                      {.tp = c.parallel.tp, .rounds_rows = rounds_rows, .threads = threads});
  }
};

TEST(Oracle, ThreadsChangeNothing) {
  const Sample sample(DType::bf16);
  const OracleResult one = sample.run(false, 1);
  const OracleResult three = sample.run(false, 3);
  EXPECT_EQ(one.y, three.y);
  EXPECT_EQ(one.bound, three.bound);
}

float load(const Bytes& bytes, std::int64_t index, DType dtype) {
  return load_element(bytes.data(), index, dtype);
}

float rounded(float value, DType dtype) {
  return dispatch(dtype, [&]<typename T>() { return to_float(from_float<T>(value)); });
}

// What an engine with float32 sums computes for one token; every choice on another rank.
std::vector<float> run_rounded(const Sample& s, std::int64_t token, bool rounds_rows) {
  const MoeDesc& d = s.c.desc;
  const std::int64_t slice = d.intermediate / s.c.parallel.tp;
  std::vector<float> y(d.hidden, 0.0F), act(d.intermediate);
  for (std::int64_t k = 0; k < d.topk; ++k) {
    const std::int64_t expert = s.call.routing_view().id(token * d.topk + k);
    const float weight = s.call.weight(token * d.topk + k);
    const bool before = d.weight_position == WeightPosition::before_down;
    for (std::int64_t i = 0; i < d.intermediate; ++i) {
      float gate = 0, up = 0;
      for (std::int64_t h = 0; h < d.hidden; ++h) {
        const float x = load(s.call.x, token * s.call.row_stride + h, d.dtype);
        const std::int64_t index = (expert * d.intermediate + i) * d.hidden + h;
        gate += x * load(s.weights.gate, index, d.dtype);
        up += x * load(s.weights.up, index, d.dtype);
      }
      act[i] = rounded(gate / (1 + std::exp(-gate)) * up * (before ? weight : 1.0F), d.dtype);
    }
    for (std::int64_t h = 0; h < d.hidden; ++h) {
      for (std::int64_t begin = 0; begin < d.intermediate; begin += slice) {
        float sum = 0;
        for (std::int64_t i = begin; i < begin + slice; ++i) {
          sum +=
              act[i] * load(s.weights.down, (expert * d.hidden + h) * d.intermediate + i, d.dtype);
        }
        if (rounds_rows) sum = rounded(sum, d.dtype);
        y[h] += rounded(sum * (before ? 1.0F : weight), d.dtype);
      }
    }
  }
  for (float& value : y) value = rounded(value, d.dtype);
  return y;
}

// Largest error of that engine as a share of the bound.
double worst_share(const Sample& sample, bool rounds_rows = false) {
  const OracleResult truth = sample.run(rounds_rows);
  double worst = 0;
  for (std::int64_t token = 0; token < sample.call.tokens; ++token) {
    const std::vector<float> y = run_rounded(sample, token, rounds_rows);
    for (std::int64_t h = 0; h < sample.c.desc.hidden; ++h) {
      const std::int64_t index = token * sample.c.desc.hidden + h;
      worst = std::max(worst, std::abs(y[h] - truth.y[index]) / truth.bound[index]);
    }
  }
  return worst;
}

TEST(OracleBound, HoldsForAnHonestEngineAndIsNotIdle) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    for (const auto position : {WeightPosition::after_down, WeightPosition::before_down}) {
      for (const std::int64_t tp : {1, 3}) {
        for (const bool rounds_rows : {false, true}) {
          SCOPED_TRACE(testing::Message()
                       << to_string(dtype) << " tp " << tp << " rounds rows " << rounds_rows);
          const double worst = worst_share(Sample(dtype, position, tp), rounds_rows);
          EXPECT_LE(worst, 1.0);
          // Rounding errors of float32 sums have random signs and stay far below their bound.
          EXPECT_GE(worst, dtype == DType::f32 ? 5e-4 : 0.1);
        }
      }
    }
  }
}

// Multiplies every number of `bytes` by a power of two.
void scale(Bytes& bytes, DType dtype, float factor) {
  for (std::int64_t i = 0; i < std::ssize(bytes) / static_cast<std::int64_t>(size_of(dtype)); ++i) {
    store_element(bytes.data(), i, dtype, factor * load_element(bytes.data(), i, dtype));
  }
}

// Rounding activations, products and y that are no normal numbers of f16 loses up to 2^-25 of each,
// far more than u times the number.
TEST(OracleBound, HoldsBelowTheNormalRangeOfF16) {
  const struct {
    float up, down, weight;
  } scales[] = {{0x1p-20F, 1, 1}, {1, 0x1p-18F, 1}, {0x1p-14F, 1, 0x1p-6F}};
  for (const auto position : {WeightPosition::after_down, WeightPosition::before_down}) {
    for (const bool rounds_rows : {false, true}) {
      for (const auto& [up, down, weight] : scales) {
        SCOPED_TRACE(testing::Message() << to_string(position) << " up " << up << " down " << down
                                        << " rounds rows " << rounds_rows);
        Sample sample(DType::f16, position);
        scale(sample.weights.up, DType::f16, up);
        scale(sample.weights.down, DType::f16, down);
        scale(sample.call.weights, sample.call.weight_type, weight);
        const double worst = worst_share(sample, rounds_rows);
        EXPECT_LE(worst, 1.0);
        EXPECT_GE(worst, 0.1);
      }
    }
  }
}

TEST(OracleBound, IsNarrowBesideTheOutput) {
  constexpr double kAllowed[] = {1e-3, 0.06, 0.0075};
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const Sample sample(dtype);
    const OracleResult truth = sample.run();
    double squares = 0, bound_squares = 0;
    for (std::size_t i = 0; i < truth.y.size(); ++i) {
      squares += truth.y[i] * truth.y[i];
      bound_squares += truth.bound[i] * truth.bound[i];
    }
    // Of float32, narrow enough to see products taken in bfloat16 (2^-8) or half (2^-11).
    EXPECT_LE(std::sqrt(bound_squares / squares), kAllowed[static_cast<std::size_t>(dtype)]);
  }
}

// Share of token `token`'s elements that leave the bound of `truth`.
double share_outside(const Sample& s, const OracleResult& truth, const OracleResult& got,
                     std::int64_t token) {
  std::int64_t outside = 0;
  for (std::int64_t h = 0; h < s.c.desc.hidden; ++h) {
    const std::int64_t index = token * s.c.desc.hidden + h;
    if (std::abs(got.y[index] - truth.y[index]) > truth.bound[index]) ++outside;
  }
  return static_cast<double>(outside) / static_cast<double>(s.c.desc.hidden);
}

class OracleBoundDetects : public testing::TestWithParam<DType> {
 protected:
  // Half of a token's elements must show the mistake, and no other token's.
  template <typename Mistake>
  void expect_seen(const Mistake& mistake, double share = 0.5) {
    for (std::int64_t token = 0; token < 24; token += 5) {
      Sample sample(GetParam());
      // Weights of one size, so that no mistake hides in a choice of weight 0.
      const std::int64_t num_choices = sample.call.tokens * sample.c.desc.topk;
      for (std::int64_t i = 0; i < num_choices; ++i) sample.call.set_weight(i, 0.3F);
      const OracleResult truth = sample.run();
      mistake(sample, token);
      const OracleResult got = sample.run();
      EXPECT_GE(share_outside(sample, truth, got, token), share) << "token " << token;
      EXPECT_EQ(share_outside(sample, truth, got, (token + 1) % 24), 0.0);
    }
  }
};
INSTANTIATE_TEST_SUITE_P(DTypes, OracleBoundDetects,
                         testing::Values(DType::f32, DType::bf16, DType::f16),
                         [](const auto& test) { return std::string(to_string(test.param)); });

TEST_P(OracleBoundDetects, ADroppedChoice) {
  expect_seen([](Sample& s, std::int64_t token) { s.call.set_id(token * 3 + 1, -1); });
}

TEST_P(OracleBoundDetects, AWrongExpert) {
  expect_seen([](Sample& s, std::int64_t token) {
    const std::int64_t id = s.call.routing_view().id(token * 3 + 1);
    s.call.set_id(token * 3 + 1, (id + 1) % 5);
  });
}

TEST_P(OracleBoundDetects, ARoutingWeightAQuarterOff) {
  expect_seen([](Sample& s, std::int64_t token) {
    s.call.set_weight(token * 3, s.call.weight(token * 3) * 1.25F);
  });
}

TEST_P(OracleBoundDetects, AnotherTokensRow) {
  expect_seen([](Sample& s, std::int64_t token) {
    const std::size_t bytes = 72 * size_of(s.c.desc.dtype);
    const std::int64_t stride = s.call.row_stride * size_of(s.c.desc.dtype);
    std::memcpy(s.call.x.data() + token * stride, s.call.x.data() + (token + 7) % 24 * stride,
                bytes);
  });
}

TEST_P(OracleBoundDetects, OneElementOfX) {
  // One of 72 terms of each dot product of the first GEMM.
  expect_seen(
      [](Sample& s, std::int64_t token) {
        store_element(s.call.x.data(), token * s.call.row_stride + 11, s.c.desc.dtype, 2.0F);
      },
      0.3);
}

}  // namespace
}  // namespace comet
