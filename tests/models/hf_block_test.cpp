// SPDX-License-Identifier: Apache-2.0
// Small checkpoints written by transformers, with what its own modules answer
// (tools/make_checkpoints.py): the loader, the router rule and the shared expert must agree.
#include "models/hf_block.hpp"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "io/safetensors.hpp"
#include "io/text_file.hpp"
#include "models/naive_block.hpp"

namespace comet {
namespace {

constexpr double kTolerance = 1e-5;  // of the largest magnitude: float32 sums against double

std::vector<std::filesystem::path> checkpoints() {
  std::vector<std::filesystem::path> result;
  for (const auto& entry : std::filesystem::directory_iterator(COMET_TEST_CHECKPOINTS)) {
    if (entry.is_directory()) result.push_back(entry.path());
  }
  std::sort(result.begin(), result.end());
  return result;
}

template <typename T>
void expect_close(const std::vector<T>& actual, const std::vector<float>& expected,
                  const char* what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double largest = 0;
  double error = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    error = std::max(error, std::abs(static_cast<double>(actual[i]) - expected[i]));
  }
  EXPECT_GT(largest, 0) << what;
  EXPECT_LE(error, kTolerance * largest) << what << ", largest magnitude " << largest;
}

// What a checkpoint's io.safetensors says about one layer.
struct Known {
  std::vector<float> x, y, topk_weights, router_logits;
  std::vector<std::int64_t> topk_ids;
  std::int64_t tokens = 0;
};

Known read_known(const SafetensorsFile& file, std::int64_t layer) {
  const std::string suffix = fmt::format(".{}", layer);
  return {.x = to_float32(file.tensor("x")),
          .y = to_float32(file.tensor("y" + suffix)),
          .topk_weights = to_float32(file.tensor("topk_weights" + suffix)),
          .router_logits = to_float32(file.tensor("router_logits" + suffix)),
          .topk_ids = to_int64(file.tensor("topk_ids" + suffix)),
          .tokens = file.tensor("x").shape.at(0)};
}

ConstMatrixView view(const std::vector<float>& x, std::int64_t rows, std::int64_t cols) {
  return {.data = x.data(), .rows = rows, .cols = cols, .row_stride = cols, .dtype = DType::f32};
}

void check_layer(const std::filesystem::path& directory, std::int64_t layer, const Known& known) {
  MoeBlock block = load_moe_block(directory, layer, DType::f32);
  const std::int64_t hidden = block.desc.hidden;
  const ConstMatrixView x = view(known.x, known.tokens, hidden);

  const std::vector<float> logits = router_logits(block, x);
  expect_close(logits, known.router_logits, "router logits");
  const Routing routing = route(block.router, logits.data(), known.tokens);
  const std::vector<std::int64_t> ids(routing.ids.begin(), routing.ids.end());
  EXPECT_EQ(ids, known.topk_ids);
  expect_close(routing.weights, known.topk_weights, "routing weights");

  const auto check_y = [&](const ParallelDesc& parallel, const char* what) {
    const std::vector<double> routed = naive_block(block, parallel, known.x, routing);
    std::vector<float> y(routed.begin(), routed.end());
    apply_shared_expert(block, x, {y.data(), known.tokens, hidden, hidden, DType::f32});
    expect_close(y, known.y, what);
  };
  check_y({.ep = 1, .tp = 1}, "y of one rank");
  check_y({.ep = 3, .tp = 1}, "y of EP 3");
  check_y({.ep = 2, .tp = 3}, "y of EP 2 x TP 3");
  for (std::int64_t e = 0; e < block.desc.num_experts; ++e) {
    block.desc.expert_owner.push_back(static_cast<std::int32_t>(e % 2));
  }
  check_y({.ep = 2, .tp = 3}, "y of experts placed in turn");
}

TEST(HfBlock, AgreesWithTransformers) {
  ASSERT_TRUE(std::filesystem::is_directory(COMET_TEST_CHECKPOINTS))
      << COMET_TEST_CHECKPOINTS << " is missing; make it with tools/make_checkpoints.py";
  std::set<HfModelType> seen;
  int num_sharded = 0;
  for (const std::filesystem::path& directory : checkpoints()) {
    SCOPED_TRACE(directory.filename().string());
    const HfMoeConfig config =
        parse_hf_config(read_text_file(directory / "config.json", 1 << 20), directory.string());
    const SafetensorsFile known = SafetensorsFile::open(directory / "io.safetensors");
    for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
      SCOPED_TRACE(fmt::format("layer {}", layer));
      check_layer(directory, layer, read_known(known, layer));
    }
    seen.insert(config.model_type);
    num_sharded += std::filesystem::exists(directory / "model.safetensors.index.json") ? 1 : 0;
  }
  EXPECT_EQ(seen.size(), 4U) << "one checkpoint at least of each model family";
  EXPECT_GE(num_sharded, 1) << "one checkpoint at least in shards";
}

// The same model under other names, or cut into shards, is the same block bit for bit.
TEST(HfBlock, FormsOfOneModelAgreeBitwise) {
  const std::filesystem::path root = COMET_TEST_CHECKPOINTS;
  for (const auto& [name, other] : {std::pair{"mixtral", "mixtral_fused"},
                                    {"mixtral", "mixtral_sharded"},
                                    {"qwen2_moe", "qwen2_moe_fused"},
                                    {"phimoe", "phimoe_fused"}}) {
    SCOPED_TRACE(other);
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      const MoeBlock a = load_moe_block(root / name, 1, dtype);
      const MoeBlock b = load_moe_block(root / other, 1, dtype);
      EXPECT_EQ(a.router_weight, b.router_weight);
      EXPECT_TRUE(std::equal(a.gate_up.data(), a.gate_up.data() + a.gate_up.size(),
                             b.gate_up.data(), b.gate_up.data() + b.gate_up.size()));
      EXPECT_TRUE(std::equal(a.down.data(), a.down.data() + a.down.size(), b.down.data(),
                             b.down.data() + b.down.size()));
      ASSERT_EQ(a.shared.has_value(), b.shared.has_value());
      if (a.shared) {
        EXPECT_EQ(a.shared->down, b.shared->down);
      }
    }
  }
}

}  // namespace
}  // namespace comet
