// SPDX-License-Identifier: Apache-2.0
// config.json of the four families, and what is refused in one.
#include "models/hf_config.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "io/expect_error.hpp"

namespace comet {
namespace {

using nlohmann::json;

json mixtral() {
  return {{"model_type", "mixtral"},    {"num_local_experts", 8},  {"num_experts_per_tok", 2},
          {"hidden_size", 64},          {"intermediate_size", 96}, {"num_hidden_layers", 4},
          {"router_jitter_noise", 0.5}, {"hidden_act", "silu"}};
}

json qwen2_moe() {
  return {{"model_type", "qwen2_moe"},
          {"num_experts", 12},
          {"num_experts_per_tok", 4},
          {"hidden_size", 64},
          {"intermediate_size", 500},
          {"moe_intermediate_size", 24},
          {"shared_expert_intermediate_size", 40},
          {"num_hidden_layers", 6},
          {"norm_topk_prob", false},
          {"decoder_sparse_step", 2},
          {"mlp_only_layers", {3}}};
}

HfMoeConfig parse(const json& config) { return parse_hf_config(config.dump(), "c.json"); }

void refuse(ErrorCode code, const std::string& words, const json& config) {
  expect_error(code, words, [&] { parse(config); });
  expect_error(code, "[model config] c.json", [&] { parse(config); });
}

json changed(json config, const char* key, json value) {
  config[key] = std::move(value);
  return config;
}

json without(json config, const char* key) {
  config.erase(key);
  return config;
}

TEST(HfConfig, ReadsMixtral) {
  const HfMoeConfig config = parse(mixtral());
  EXPECT_EQ(config.model_type, HfModelType::mixtral);
  EXPECT_EQ(config.desc.num_experts, 8);
  EXPECT_EQ(config.desc.topk, 2);
  EXPECT_EQ(config.desc.hidden, 64);
  EXPECT_EQ(config.desc.intermediate, 96);
  EXPECT_EQ(config.desc.max_tokens, 0);
  EXPECT_EQ(config.desc.activation, Activation::silu);
  EXPECT_TRUE(config.desc.gated);
  EXPECT_EQ(config.router.scoring, Scoring::softmax);
  EXPECT_TRUE(config.router.renormalize);
  EXPECT_EQ(config.router.num_experts, 8);
  EXPECT_EQ(config.shared_intermediate, 0);
  for (std::int64_t layer = 0; layer < 4; ++layer) EXPECT_TRUE(config.is_moe_layer(layer));
  EXPECT_FALSE(config.is_moe_layer(-1));
  EXPECT_FALSE(config.is_moe_layer(4));
}

TEST(HfConfig, ReadsQwen) {
  const HfMoeConfig config = parse(qwen2_moe());
  EXPECT_EQ(config.model_type, HfModelType::qwen2_moe);
  EXPECT_EQ(config.desc.intermediate, 24);
  EXPECT_EQ(config.shared_intermediate, 40);
  EXPECT_FALSE(config.router.renormalize);
  // Step 2 makes layers 1, 3 and 5 sparse, of which 3 is listed as dense.
  const std::vector<bool> sparse = {false, true, false, false, false, true};
  for (std::int64_t layer = 0; layer < 6; ++layer) {
    EXPECT_EQ(config.is_moe_layer(layer), sparse[layer]) << layer;
  }
  json qwen3 = changed(qwen2_moe(), "model_type", "qwen3_moe");
  qwen3["norm_topk_prob"] = true;
  qwen3["mlp_only_layers"] = nullptr;
  qwen3.erase("decoder_sparse_step");
  qwen3.erase("num_experts");
  qwen3["num_local_experts"] = 12;
  const HfMoeConfig config3 = parse(qwen3);
  EXPECT_TRUE(config3.router.renormalize);
  EXPECT_EQ(config3.desc.num_experts, 12);
  EXPECT_EQ(config3.shared_intermediate, 0);
  EXPECT_TRUE(config3.is_moe_layer(0));
  EXPECT_FALSE(parse(without(qwen2_moe(), "norm_topk_prob")).router.renormalize);
}

TEST(HfConfig, ReadsPhimoe) {
  json phimoe = changed(mixtral(), "model_type", "phimoe");
  phimoe["router_jitter_noise"] = 0.02;
  phimoe["input_jitter_noise"] = 0.01;
  const HfMoeConfig config = parse(phimoe);
  EXPECT_EQ(config.router.scoring, Scoring::sparsemixer);
  EXPECT_FALSE(config.router.renormalize);
  EXPECT_EQ(config.router.jitter_eps, 0.02);
  EXPECT_EQ(parse(without(phimoe, "router_jitter_noise")).router.jitter_eps, 0.01);
  refuse(ErrorCode::unsupported, "sparsemixer", changed(phimoe, "num_experts_per_tok", 4));
  refuse(ErrorCode::format, "router_jitter_noise is no number",
         changed(phimoe, "router_jitter_noise", -0.5));
  refuse(ErrorCode::format, "router_jitter_noise is no number",
         changed(phimoe, "router_jitter_noise", "0.5"));
}

TEST(HfConfig, ReadsActivations) {
  const auto read = [](json name) {
    return parse(changed(mixtral(), "hidden_act", std::move(name))).desc.activation;
  };
  EXPECT_EQ(read("silu"), Activation::silu);
  EXPECT_EQ(read("swish"), Activation::silu);
  EXPECT_EQ(read("gelu"), Activation::gelu);
  EXPECT_EQ(read("relu"), Activation::relu);
  EXPECT_EQ(read(nullptr), Activation::silu);
  refuse(ErrorCode::unsupported, "hidden_act 'gelu_pytorch_tanh': one of",
         changed(mixtral(), "hidden_act", "gelu_pytorch_tanh"));
  refuse(ErrorCode::format, "hidden_act is missing or no string",
         changed(mixtral(), "hidden_act", 7));
}

TEST(HfConfig, RefusesWhatIsMissing) {
  for (const char* key : {"num_local_experts", "num_experts_per_tok", "hidden_size",
                          "intermediate_size", "num_hidden_layers", "model_type"}) {
    refuse(ErrorCode::format, std::string(key) + " is missing", without(mixtral(), key));
    refuse(ErrorCode::format, std::string(key) + " is missing", changed(mixtral(), key, nullptr));
  }
  for (const char* key :
       {"num_experts", "moe_intermediate_size", "shared_expert_intermediate_size"}) {
    refuse(ErrorCode::format, std::string(key) + " is missing", without(qwen2_moe(), key));
  }
}

TEST(HfConfig, RefusesWrongValues) {
  const json bad_values[] = {0, -1, 1.5, 2147483648U, UINT64_MAX, true, "8", json::array({8})};
  for (const json& value : bad_values) {
    for (const char* key : {"num_local_experts", "num_experts_per_tok", "hidden_size",
                            "intermediate_size", "num_hidden_layers"}) {
      refuse(ErrorCode::format, std::string(key) + " is no integer from 1",
             changed(mixtral(), key, value));
    }
  }
  refuse(ErrorCode::format, "decoder_sparse_step is no integer",
         changed(qwen2_moe(), "decoder_sparse_step", 0));
  refuse(ErrorCode::format, "norm_topk_prob is neither", changed(qwen2_moe(), "norm_topk_prob", 1));
  refuse(ErrorCode::format, "mlp_only_layers is no list",
         changed(qwen2_moe(), "mlp_only_layers", 3));
  refuse(ErrorCode::format, "entry that is no layer",
         changed(qwen2_moe(), "mlp_only_layers", json::array({-1})));
  refuse(ErrorCode::format, "model_type is missing or no string",
         changed(mixtral(), "model_type", json::object()));
}

TEST(HfConfig, RefusesWhatTheLayerCannotDo) {
  refuse(ErrorCode::unsupported, "model_type 'llama': one of mixtral, qwen2_moe, qwen3_moe, phimoe",
         changed(mixtral(), "model_type", "llama"));
  refuse(ErrorCode::unsupported, "hidden: 60", changed(mixtral(), "hidden_size", 60));
  refuse(ErrorCode::unsupported, "intermediate: 97", changed(mixtral(), "intermediate_size", 97));
  refuse(ErrorCode::unsupported, "num_experts: 70000",
         changed(mixtral(), "num_local_experts", 70000));
  refuse(ErrorCode::unsupported, "topk: 9", changed(mixtral(), "num_experts_per_tok", 9));
  refuse(ErrorCode::unsupported, "quantized",
         changed(mixtral(), "quantization_config", {{"quant_method", "fp8"}}));
}

TEST(HfConfig, RefusesWhatIsNoObject) {
  for (const char* text : {"", "[]", "null", "7", "{", "{} {}", "\"mixtral\""}) {
    expect_error(ErrorCode::format, "c.json", [&] { parse_hf_config(text, "c.json"); });
  }
}

}  // namespace
}  // namespace comet
