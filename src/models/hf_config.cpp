// SPDX-License-Identifier: Apache-2.0
#include "models/hf_config.hpp"

#include <algorithm>
#include <initializer_list>
#include <limits>

#include "base/check.hpp"
#include "base/name_table.hpp"
#include "io/json.hpp"

namespace comet {
namespace {

constexpr NameTable<HfModelType, 4> kModelTypes{{
    {HfModelType::mixtral, "mixtral"},
    {HfModelType::qwen2_moe, "qwen2_moe"},
    {HfModelType::qwen3_moe, "qwen3_moe"},
    {HfModelType::phimoe, "phimoe"},
}};

// Beyond any model; keeps loops over layers short whatever the file says.
constexpr std::int64_t kMaxLayers = 100'000;
constexpr std::int64_t kMaxSize = std::numeric_limits<std::int32_t>::max();

// Typed access to the keys of one config.json. A key that is null counts as missing.
class Config {
 public:
  Config(std::string_view text, const std::string& source)
      : json_(parse_json(text, "model config", source)), source_(source) {
    check(json_.is_object(), ErrorCode::format, "[model config] {}: needs a JSON object", source_);
  }

  const nlohmann::json* find(const char* key) const {
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }

  // The first of `keys` that is there.
  std::int64_t integer(std::initializer_list<const char*> keys, std::int64_t most) const {
    for (const char* key : keys) {
      if (const nlohmann::json* value = find(key); value != nullptr) {
        check(value->is_number_unsigned() && value->get<std::uint64_t>() >= 1 &&
                  value->get<std::uint64_t>() <= static_cast<std::uint64_t>(most),
              ErrorCode::format, "[model config] {}: {} is no integer from 1 to {}", source_, key,
              most);
        return value->get<std::int64_t>();
      }
    }
    fail(ErrorCode::format, "[model config] {}: {} is missing", source_, *keys.begin());
  }

  std::int64_t integer_or(const char* key, std::int64_t fallback, std::int64_t most) const {
    return find(key) == nullptr ? fallback : integer({key}, most);
  }

  bool boolean_or(const char* key, bool fallback) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return fallback;
    check(value->is_boolean(), ErrorCode::format, "[model config] {}: {} is neither true nor false",
          source_, key);
    return value->get<bool>();
  }

  double fraction_or(const char* key, double fallback) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return fallback;
    const double number = value->is_number() ? value->get<double>() : -1.0;
    check(number >= 0 && number <= 1, ErrorCode::format,
          "[model config] {}: {} is no number from 0 to 1", source_, key);
    return number;
  }

  std::string string(const char* key) const {
    const nlohmann::json* value = find(key);
    check(value != nullptr && value->is_string(), ErrorCode::format,
          "[model config] {}: {} is missing or no string", source_, key);
    return value->get<std::string>();
  }

  std::vector<std::int64_t> layers_or_none(const char* key) const {
    std::vector<std::int64_t> result;
    const nlohmann::json* value = find(key);
    if (value == nullptr) return result;
    check(value->is_array(), ErrorCode::format, "[model config] {}: {} is no list", source_, key);
    for (const nlohmann::json& layer : *value) {
      check(layer.is_number_unsigned() && layer.get<std::uint64_t>() <= kMaxLayers,
            ErrorCode::format, "[model config] {}: {} has an entry that is no layer", source_, key);
      result.push_back(layer.get<std::int64_t>());
    }
    return result;
  }

  const std::string& source() const { return source_; }

 private:
  nlohmann::json json_;
  const std::string& source_;
};

HfModelType read_model_type(const Config& config) {
  const std::string name = config.string("model_type");
  std::string known;
  for (const auto& [type, type_name] : kModelTypes) {
    if (name == type_name) return type;
    known += known.empty() ? "" : ", ";
    known += type_name;
  }
  fail(ErrorCode::unsupported, "[model config] {}: model_type {}: one of {}", config.source(),
       quote_text(name), known);
}

Activation read_activation(const Config& config) {
  const std::string name =
      config.find("hidden_act") == nullptr ? "silu" : config.string("hidden_act");
  if (name == "silu" || name == "swish") return Activation::silu;
  if (name == "gelu") return Activation::gelu;
  if (name == "relu") return Activation::relu;
  fail(ErrorCode::unsupported, "[model config] {}: hidden_act {}: one of silu, swish, gelu, relu",
       config.source(), quote_text(name));
}

RouterDesc read_router(const Config& config, HfModelType type, const MoeDesc& desc) {
  RouterDesc router{.num_experts = desc.num_experts, .topk = desc.topk};
  switch (type) {
    case HfModelType::mixtral:
      router.renormalize = true;  // always; its router_jitter_noise acts in training only
      break;
    case HfModelType::qwen2_moe:
    case HfModelType::qwen3_moe:
      router.renormalize = config.boolean_or("norm_topk_prob", false);
      break;
    case HfModelType::phimoe:  // its input_jitter_noise acts in training only
      router.scoring = Scoring::sparsemixer;
      router.renormalize = false;
      router.jitter_eps = config.fraction_or("router_jitter_noise", 0.01);
      break;
  }
  return router;
}

}  // namespace

std::string_view to_string(HfModelType type) noexcept { return name_of(kModelTypes, type); }

bool HfMoeConfig::is_moe_layer(std::int64_t layer) const noexcept {
  return layer >= 0 && layer < num_layers && (layer + 1) % decoder_sparse_step == 0 &&
         std::find(mlp_only_layers.begin(), mlp_only_layers.end(), layer) == mlp_only_layers.end();
}

HfMoeConfig parse_hf_config(std::string_view text, const std::string& source) {
  const Config config(text, source);
  HfMoeConfig result;
  result.model_type = read_model_type(config);
  check(config.find("quantization_config") == nullptr, ErrorCode::unsupported,
        "[model config] {}: quantized checkpoints (quantization_config) are not read", source);
  const bool is_qwen =
      result.model_type == HfModelType::qwen2_moe || result.model_type == HfModelType::qwen3_moe;
  // Either name occurs for the number of experts: transformers maps one onto the other.
  result.desc.num_experts = config.integer({is_qwen ? "num_experts" : "num_local_experts",
                                            is_qwen ? "num_local_experts" : "num_experts"},
                                           kMaxSize);
  result.desc.topk = config.integer({"num_experts_per_tok"}, kMaxSize);
  result.desc.hidden = config.integer({"hidden_size"}, kMaxSize);
  result.desc.intermediate =
      config.integer({is_qwen ? "moe_intermediate_size" : "intermediate_size"}, kMaxSize);
  result.desc.activation = read_activation(config);
  result.router = read_router(config, result.model_type, result.desc);
  result.num_layers = config.integer({"num_hidden_layers"}, kMaxLayers);
  if (is_qwen) {
    result.decoder_sparse_step = config.integer_or("decoder_sparse_step", 1, kMaxLayers);
    result.mlp_only_layers = config.layers_or_none("mlp_only_layers");
  }
  if (result.model_type == HfModelType::qwen2_moe) {
    result.shared_intermediate = config.integer({"shared_expert_intermediate_size"}, kMaxSize);
  }
  try {
    validate(result.desc, ParallelDesc{});
    validate(result.router);
  } catch (const Error& error) {
    fail(ErrorCode::unsupported, "[model config] {}: {}", source, error.what());
  }
  return result;
}

}  // namespace comet
