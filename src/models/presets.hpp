// SPDX-License-Identifier: Apache-2.0
// Shapes and router rules of well-known models, by name.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comet/desc.hpp"
#include "comet/router.hpp"

namespace comet {

/// The MoE layers of one model.
struct ModelPreset {
  std::string name;
  std::vector<std::string> aliases;
  std::int64_t num_experts = 0;
  std::int64_t topk = 0;
  std::int64_t hidden = 0;
  std::int64_t intermediate = 0;
  std::int64_t layers = 0;  ///< MoE layers of the model.
  RouterDesc router;
  Activation activation = Activation::silu;
  bool gated = true;
  /// Inner size of the shared expert that runs beside the routed ones; 0 if there is none.
  std::int64_t shared_intermediate = 0;
};

/// All presets, in a fixed order.
std::span<const ModelPreset> model_presets();

/// The preset of that name or alias (lower case); throws Error(invalid_argument) listing all names.
const ModelPreset& find_preset(std::string_view name);

/// The layer that a preset describes.
MoeDesc make_desc(const ModelPreset& preset, std::int64_t max_tokens, DType dtype);

}  // namespace comet
