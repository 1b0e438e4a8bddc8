// SPDX-License-Identifier: Apache-2.0
// What a Hugging Face config.json says about the MoE layers of a model.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "comet/desc.hpp"
#include "comet/router.hpp"

namespace comet {

/// Model families whose MoE blocks can be read.
enum class HfModelType : std::uint8_t { mixtral, qwen2_moe, qwen3_moe, phimoe };

/// The "model_type" of config.json.
std::string_view to_string(HfModelType type) noexcept;

struct HfMoeConfig {
  HfModelType model_type = HfModelType::mixtral;
  MoeDesc desc;  ///< max_tokens is 0, dtype f32.
  RouterDesc router;
  std::int64_t num_layers = 0;                ///< Decoder layers, dense ones included.
  std::int64_t decoder_sparse_step = 1;       ///< Layer l is MoE if (l + 1) % step == 0 ...
  std::vector<std::int64_t> mlp_only_layers;  ///< ... and it is not listed here.
  std::int64_t shared_intermediate = 0;       ///< 0: no shared expert.

  bool is_moe_layer(std::int64_t layer) const noexcept;
};

/// Parses the text of a config.json. Throws Error(format) naming `source` and the key if something
/// is missing or wrong, and Error(unsupported) for model types and activations that are not read.
HfMoeConfig parse_hf_config(std::string_view text, const std::string& source);

}  // namespace comet
