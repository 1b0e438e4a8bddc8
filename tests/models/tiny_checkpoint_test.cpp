// SPDX-License-Identifier: Apache-2.0
// Checkpoints that the test writes itself: which tensor lands where, and what is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "io/expect_error.hpp"
#include "io/safetensors.hpp"
#include "io/temp_dir.hpp"
#include "models/naive_block.hpp"

namespace comet {
namespace {

constexpr std::int64_t kExperts = 3;
constexpr std::int64_t kHidden = 8;
constexpr std::int64_t kInter = 16;
constexpr std::int64_t kShared = 5;  // a shared expert may have any inner size

// A checkpoint as data, to be spoilt before it is written. Every element has a value of its own.
struct TinyModel {
  nlohmann::json config;
  std::map<std::string, std::pair<std::vector<std::int64_t>, std::vector<float>>> tensors;

  void add(const std::string& name, std::vector<std::int64_t> shape) {
    std::int64_t elements = 1;
    for (const std::int64_t dimension : shape) elements *= dimension;
    std::vector<float> values;
    const float base = static_cast<float>(tensors.size()) / 16;
    for (std::int64_t i = 0; i < elements; ++i) {
      values.push_back(base + static_cast<float>(i) / 4096);
    }
    tensors[name] = {std::move(shape), std::move(values)};
  }

  void write(const TempDir& dir) const {
    dir.write("config.json", config.dump());
    std::vector<TensorToWrite> list;
    for (const auto& [name, tensor] : tensors) {
      list.push_back({name, StoredType::f32, tensor.first, tensor.second.data()});
    }
    write_safetensors(dir / "model.safetensors", list);
  }

  const std::vector<float>& values(const std::string& name) const {
    return tensors.at(name).second;
  }
};

TinyModel tiny_qwen(const std::string& root = "model.") {
  TinyModel model;
  model.config = {{"model_type", "qwen2_moe"},       {"num_experts", kExperts},
                  {"num_experts_per_tok", 2},        {"hidden_size", kHidden},
                  {"moe_intermediate_size", kInter}, {"shared_expert_intermediate_size", kShared},
                  {"num_hidden_layers", 2},          {"mlp_only_layers", {0}}};
  const std::string block = root + "layers.1.mlp.";
  model.add(block + "gate.weight", {kExperts, kHidden});
  for (std::int64_t e = 0; e < kExperts; ++e) {
    const std::string expert = block + "experts." + std::to_string(e) + ".";
    model.add(expert + "gate_proj.weight", {kInter, kHidden});
    model.add(expert + "up_proj.weight", {kInter, kHidden});
    model.add(expert + "down_proj.weight", {kHidden, kInter});
  }
  model.add(block + "shared_expert.gate_proj.weight", {kShared, kHidden});
  model.add(block + "shared_expert.up_proj.weight", {kShared, kHidden});
  model.add(block + "shared_expert.down_proj.weight", {kHidden, kShared});
  model.add(block + "shared_expert_gate.weight", {1, kHidden});
  return model;
}

const std::string kBlock = "model.layers.1.mlp.";

TEST(TinyCheckpoint, EverySliceIsWhereItShouldBe) {
  for (const std::string& root : {std::string("model."), std::string()}) {
    const TempDir dir;
    const TinyModel model = tiny_qwen(root);
    model.write(dir);
    const MoeBlock block = load_moe_block(dir.path(), 1, DType::f32);
    EXPECT_EQ(block.layer, 1);
    EXPECT_EQ(block.router_weight, model.values(root + "layers.1.mlp.gate.weight"));
    const ParallelDesc parallel{.ep = 2, .tp = 2};  // experts 0 and 1 on EP rank 0, 2 on rank 1
    for (std::int64_t expert = 0; expert < kExperts; ++expert) {
      const std::int64_t ep_rank = expert / 2;
      const std::int64_t local = expert % 2;
      const std::string prefix = root + "layers.1.mlp.experts." + std::to_string(expert) + ".";
      for (std::int64_t tp_rank = 0; tp_rank < 2; ++tp_rank) {
        const RankWeights slice = rank_weights(block, parallel, ep_rank, tp_rank);
        const auto& [gate, up, down] = slice.weights;
        const auto at = [&](const ExpertMatrices& matrices, std::int64_t r, std::int64_t c) {
          return static_cast<const float*>(
              matrices.expert(local, DType::f32))[r * matrices.row_stride + c];
        };
        for (std::int64_t i = 0; i < kInter / 2; ++i) {
          const std::int64_t row = tp_rank * kInter / 2 + i;
          for (std::int64_t h = 0; h < kHidden; ++h) {
            const std::int64_t in_gate = row * kHidden + h;
            ASSERT_EQ(at(gate, i, h), model.values(prefix + "gate_proj.weight")[in_gate]);
            ASSERT_EQ(at(up, i, h), model.values(prefix + "up_proj.weight")[in_gate]);
            ASSERT_EQ(at(down, h, i), model.values(prefix + "down_proj.weight")[h * kInter + row]);
          }
        }
      }
    }
  }
}

TEST(TinyCheckpoint, RanksWithoutExpertsHaveViews) {
  const TempDir dir;
  tiny_qwen().write(dir);
  MoeBlock block = load_moe_block(dir.path(), 1, DType::f32);
  const RankWeights slice = rank_weights(block, {.ep = 4, .tp = 1}, 3, 0);
  EXPECT_FALSE(slice.weights.gate.empty());
  EXPECT_FALSE(slice.weights.down.empty());
  expect_error(ErrorCode::out_of_range, "rank (ep 4, tp 0)",
               [&] { rank_weights(block, {.ep = 4, .tp = 1}, 4, 0); });
  expect_error(ErrorCode::out_of_range, "rank (ep 0, tp -1)",
               [&] { rank_weights(block, {.ep = 4, .tp = 1}, 0, -1); });
  expect_error(ErrorCode::invalid_argument, "intermediate: 16",
               [&] { rank_weights(block, {.ep = 1, .tp = 3}, 0, 0); });
}

TEST(TinyCheckpoint, ViewsSurviveAMove) {
  const TempDir dir;
  tiny_qwen().write(dir);
  MoeBlock block = load_moe_block(dir.path(), 1, DType::f32);
  block.desc.expert_owner = {0, 1, 0};  // not neighbours: lists of pointers
  RankWeights slice = rank_weights(block, {.ep = 2, .tp = 1}, 0, 0);
  ASSERT_NE(slice.weights.gate.list, nullptr);
  const void* expert_2 = slice.weights.down.expert(1, DType::f32);
  const MoeBlock moved = std::move(block);
  const RankWeights moved_slice = std::move(slice);
  EXPECT_EQ(moved_slice.weights.down.expert(1, DType::f32), expert_2);
  EXPECT_EQ(expert_2, moved.down.data() + 2 * kHidden * kInter * 4);
}

template <typename T>
void expect_rounded_once(DType dtype) {
  const TempDir dir;
  tiny_qwen().write(dir);
  const MoeBlock full = load_moe_block(dir.path(), 1, DType::f32);
  const MoeBlock narrow = load_moe_block(dir.path(), 1, dtype);
  EXPECT_EQ(narrow.desc.dtype, dtype);
  EXPECT_EQ(narrow.gate_up.size() * 2, full.gate_up.size());
  const auto* exact = reinterpret_cast<const float*>(full.gate_up.data());
  const auto* rounded = reinterpret_cast<const T*>(narrow.gate_up.data());
  for (std::int64_t i = 0; i < kExperts * 2 * kInter * kHidden; ++i) {
    ASSERT_EQ(rounded[i].bits, from_float<T>(exact[i]).bits);
  }
  EXPECT_EQ(narrow.router_weight, full.router_weight) << "the router stays float32";
}

TEST(TinyCheckpoint, RoundsToBf16Once) { expect_rounded_once<bf16>(DType::bf16); }
TEST(TinyCheckpoint, RoundsToF16Once) { expect_rounded_once<f16>(DType::f16); }

TEST(TinyCheckpoint, SharedExpertAndLogitsFollowTheirFormulas) {
  const TempDir dir;
  const TinyModel model = tiny_qwen();
  model.write(dir);
  const MoeBlock block = load_moe_block(dir.path(), 1, DType::f32);
  constexpr std::int64_t kTokens = 2;
  constexpr std::int64_t kStride = kHidden + 3;  // rows need not be dense
  std::vector<bf16> x(kTokens * kStride, to_bf16(1e9F));
  std::vector<float> y(kTokens * kStride, 100.0F);
  for (std::int64_t t = 0; t < kTokens; ++t) {
    for (std::int64_t h = 0; h < kHidden; ++h) {
      x[t * kStride + h] = to_bf16(static_cast<float>(t + 1) * static_cast<float>(h - 3) / 8);
    }
  }
  const ConstMatrixView x_view{x.data(), kTokens, kHidden, kStride, DType::bf16};
  apply_shared_expert(block, x_view, {y.data(), kTokens, kHidden, kStride, DType::f32});
  const std::vector<float> logits = router_logits(block, x_view);

  const auto dot = [&](const std::string& name, std::int64_t row, std::int64_t t) {
    double sum = 0;
    for (std::int64_t h = 0; h < kHidden; ++h) {
      sum += static_cast<double>(model.values(kBlock + name)[row * kHidden + h]) *
             static_cast<double>(to_float(x[t * kStride + h]));
    }
    return sum;
  };
  for (std::int64_t t = 0; t < kTokens; ++t) {
    for (std::int64_t e = 0; e < kExperts; ++e) {
      EXPECT_NEAR(logits[t * kExperts + e], dot("gate.weight", e, t), 1e-6);
    }
    const double share = 1 / (1 + std::exp(-dot("shared_expert_gate.weight", 0, t)));
    for (std::int64_t h = 0; h < kHidden; ++h) {
      double sum = 0;
      for (std::int64_t i = 0; i < kShared; ++i) {
        const double gate = dot("shared_expert.gate_proj.weight", i, t);
        const double weight =
            model.values(kBlock + "shared_expert.down_proj.weight")[h * kShared + i];
        sum += gate / (1 + std::exp(-gate)) * dot("shared_expert.up_proj.weight", i, t) * weight;
      }
      EXPECT_NEAR(y[t * kStride + h], 100 + share * sum, 1e-4);
      EXPECT_NE(share * sum, 0);
    }
    for (std::int64_t h = kHidden; h < kStride; ++h) {
      EXPECT_EQ(y[t * kStride + h], 100) << "nothing may be written between rows";
    }
  }
}

TEST(TinyCheckpoint, ChecksViews) {
  const TempDir dir;
  tiny_qwen().write(dir);
  const MoeBlock block = load_moe_block(dir.path(), 1, DType::f32);
  std::vector<float> data(100);
  const auto refuse = [&](const ConstMatrixView& x) {
    expect_error(ErrorCode::invalid_argument, "[model] x is", [&] { router_logits(block, x); });
  };
  refuse({data.data(), 2, kHidden + 1, kHidden + 1, DType::f32});
  refuse({data.data(), 2, kHidden, kHidden - 1, DType::f32});
  refuse({nullptr, 2, kHidden, kHidden, DType::f32});
  refuse({data.data(), -1, kHidden, kHidden, DType::f32});
  EXPECT_TRUE(router_logits(block, {nullptr, 0, kHidden, kHidden, DType::f32}).empty());
  expect_error(ErrorCode::invalid_argument, "x has 1 rows, y 2", [&] {
    apply_shared_expert(block, {data.data(), 1, kHidden, kHidden, DType::f32},
                        {data.data(), 2, kHidden, kHidden, DType::f32});
  });
}

TEST(TinyCheckpoint, RefusesLayersWithoutABlock) {
  const TempDir dir;
  TinyModel model = tiny_qwen();
  model.write(dir);
  const auto load = [&](std::int64_t layer) { load_moe_block(dir.path(), layer, DType::f32); };
  expect_error(ErrorCode::out_of_range, "layer 0 is dense; its MoE layers are 1", [&] { load(0); });
  expect_error(ErrorCode::out_of_range, "layer 2, allowed 0 to 1", [&] { load(2); });
  expect_error(ErrorCode::out_of_range, "layer -1", [&] { load(-1); });
  model.config["mlp_only_layers"] = {0, 1};
  model.write(dir);
  expect_error(ErrorCode::out_of_range, "MoE layers are none", [&] { load(1); });
  model.config["mlp_only_layers"] = nlohmann::json::array();
  model.write(dir);
  expect_error(ErrorCode::format, "has no router for layer 0: none of model.layers.0",
               [&] { load(0); });
}

TEST(TinyCheckpoint, RefusesTensorsThatAreMissingOrWrong) {
  const TempDir dir;
  const TinyModel good = tiny_qwen();
  for (const auto& [name, tensor] : good.tensors) {
    SCOPED_TRACE(name);
    TinyModel model = good;
    model.tensors.erase(name);
    model.write(dir);
    expect_error(ErrorCode::format, name, [&] { load_moe_block(dir.path(), 1, DType::f32); });
    model.add(name, {tensor.first[1], tensor.first[0]});  // transposed
    model.write(dir);
    expect_error(ErrorCode::format, name, [&] { load_moe_block(dir.path(), 1, DType::f32); });
  }
}

// The fused form: gate and up of all experts in one tensor, down in another.
TEST(TinyCheckpoint, FusedExpertsAreChecked) {
  const TempDir dir;
  TinyModel fused = tiny_qwen();
  std::erase_if(fused.tensors, [](const auto& entry) {
    return entry.first.find(".experts.") != std::string::npos;
  });
  const std::string gate_up = kBlock + "experts.gate_up_proj";
  const std::string down = kBlock + "experts.down_proj";
  const auto load = [&] { return load_moe_block(dir.path(), 1, DType::f32); };
  fused.add(gate_up, {kExperts, 2 * kInter, kHidden});
  fused.write(dir);
  expect_error(ErrorCode::format, down, load);
  fused.add(down, {kExperts, kHidden, kInter});
  fused.write(dir);
  const MoeBlock block = load();
  const std::vector<float>& expected = fused.values(gate_up);
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(),
                         reinterpret_cast<const float*>(block.gate_up.data())));
  // The same number of elements in another order.
  TinyModel transposed = fused;
  transposed.add(gate_up, {kExperts, kHidden, 2 * kInter});
  transposed.write(dir);
  expect_error(ErrorCode::format, "has shape [3, 8, 32], config.json says [3, 32, 8]", load);
  transposed = fused;
  transposed.add(down, {kExperts, kInter, kHidden});
  transposed.write(dir);
  expect_error(ErrorCode::format, "has shape [3, 16, 8], config.json says [3, 8, 16]", load);
}

// The file has the tensors of a tiny model, so what the config claims must not be allocated.
TEST(TinyCheckpoint, HostileSizesAreRefusedBeforeMemoryIsTaken) {
  const TempDir dir;
  TinyModel model = tiny_qwen();
  model.config["hidden_size"] = 1'000'000;
  model.config["moe_intermediate_size"] = 1'000'000;
  model.write(dir);
  expect_error(ErrorCode::format, "gate.weight has shape [3, 8], config.json says [3, 1000000]",
               [&] { load_moe_block(dir.path(), 1, DType::f32); });
  model = tiny_qwen();
  model.config["moe_intermediate_size"] = 2'000'000'000;
  model.write(dir);
  expect_error(ErrorCode::format, "config.json says [2000000000, 8]",
               [&] { load_moe_block(dir.path(), 1, DType::f32); });
}

TEST(TinyCheckpoint, RefusesStoredTypesThatAreNoFloats) {
  const TempDir dir;
  const TinyModel model = tiny_qwen();
  dir.write("config.json", model.config.dump());
  std::vector<TensorToWrite> list;
  for (const auto& [name, tensor] : model.tensors) {
    const bool is_router = name == kBlock + "gate.weight";
    list.push_back(
        {name, is_router ? StoredType::i32 : StoredType::f32, tensor.first, tensor.second.data()});
  }
  write_safetensors(dir / "model.safetensors", list);
  expect_error(ErrorCode::unsupported, "gate.weight' has dtype I32",
               [&] { load_moe_block(dir.path(), 1, DType::f32); });
}

TEST(TinyCheckpoint, RefusesDirectoriesWithoutAModel) {
  const TempDir dir;
  const auto load = [&] { load_moe_block(dir.path(), 1, DType::f32); };
  expect_error(ErrorCode::io, "config.json", load);
  dir.write("config.json", tiny_qwen().config.dump());
  expect_error(ErrorCode::io, "has neither model.safetensors nor", load);
  dir.write("model.safetensors", "not one");
  expect_error(ErrorCode::format, "model.safetensors: 7 bytes", load);
  dir.write("config.json", std::string(5'000'000, ' '));
  expect_error(ErrorCode::format, "longer than 4000000 bytes", load);
}

}  // namespace
}  // namespace comet
