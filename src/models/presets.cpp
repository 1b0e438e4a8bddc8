// SPDX-License-Identifier: Apache-2.0
#include "models/presets.hpp"

#include <algorithm>

#include "base/check.hpp"

namespace comet {
namespace {

ModelPreset mixtral_8x7b() {
  return {.name = "mixtral-8x7b",
          .aliases = {"mixtral"},
          .num_experts = 8,
          .topk = 2,
          .hidden = 4096,
          .intermediate = 14336,
          .layers = 32,
          .router = {.num_experts = 8, .topk = 2}};
}

// The released model (Qwen1.5-MoE-A2.7B) has 60 experts. 64 is what the COMET paper measured, and
// what EP sizes that are powers of two divide evenly.
ModelPreset qwen2_moe_2_7b() {
  return {.name = "qwen2-moe-2.7b",
          .aliases = {"qwen2-moe"},
          .num_experts = 64,
          .topk = 4,
          .hidden = 2048,
          .intermediate = 1408,
          .layers = 24,
          .router = {.num_experts = 64, .topk = 4, .renormalize = false},
          .shared_intermediate = 5632};
}

ModelPreset qwen3_moe_30b() {
  return {.name = "qwen3-moe-30b",
          .aliases = {"qwen3-moe", "qwen3-30b-a3b"},
          .num_experts = 128,
          .topk = 8,
          .hidden = 2048,
          .intermediate = 768,
          .layers = 48,
          .router = {.num_experts = 128, .topk = 8}};
}

ModelPreset phi_3_5_moe() {
  return {.name = "phi-3.5-moe",
          .aliases = {"phi3.5-moe", "phimoe"},
          .num_experts = 16,
          .topk = 2,
          .hidden = 4096,
          .intermediate = 6400,
          .layers = 32,
          .router = {.num_experts = 16,
                     .topk = 2,
                     .scoring = Scoring::sparsemixer,
                     .renormalize = false,
                     .jitter_eps = 0.01}};
}

// 61 decoder layers, of which the first 3 are dense.
ModelPreset deepseek_v3() {
  return {.name = "deepseek-v3",
          .aliases = {"deepseek"},
          .num_experts = 256,
          .topk = 8,
          .hidden = 7168,
          .intermediate = 2048,
          .layers = 58,
          .router = {.num_experts = 256,
                     .topk = 8,
                     .scoring = Scoring::sigmoid,
                     .renormalize = true,
                     .scale = 2.5,
                     .num_groups = 8,
                     .topk_groups = 4},
          .shared_intermediate = 2048};
}

}  // namespace

std::span<const ModelPreset> model_presets() {
  static const std::vector<ModelPreset> presets = {mixtral_8x7b(), qwen2_moe_2_7b(),
                                                   qwen3_moe_30b(), phi_3_5_moe(), deepseek_v3()};
  return presets;
}

const ModelPreset& find_preset(std::string_view name) {
  std::string allowed;
  for (const ModelPreset& preset : model_presets()) {
    const auto& aliases = preset.aliases;
    if (preset.name == name || std::find(aliases.begin(), aliases.end(), name) != aliases.end()) {
      return preset;
    }
    allowed += allowed.empty() ? "" : ", ";
    allowed += preset.name;
    for (const std::string& alias : aliases) allowed += ", " + alias;
  }
  fail(ErrorCode::invalid_argument, "[model] unknown name '{}': one of {}", name, allowed);
}

MoeDesc make_desc(const ModelPreset& preset, std::int64_t max_tokens, DType dtype) {
  return {.num_experts = preset.num_experts,
          .topk = preset.topk,
          .hidden = preset.hidden,
          .intermediate = preset.intermediate,
          .max_tokens = max_tokens,
          .dtype = dtype,
          .activation = preset.activation,
          .gated = preset.gated};
}

}  // namespace comet
