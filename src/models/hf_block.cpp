// SPDX-License-Identifier: Apache-2.0
#include "models/hf_block.hpp"

#include <fmt/ranges.h>

#include <array>
#include <new>
#include <string>

#include "base/check.hpp"
#include "io/checkpoint.hpp"
#include "io/text_file.hpp"

namespace comet {
namespace {

constexpr std::size_t kAlignment = 64;  // a cache line, and the widest vector register
constexpr std::size_t kMaxConfigBytes = 4'000'000;

using Shape = std::vector<std::int64_t>;

const StoredTensor& with_shape(const StoredTensor& tensor, const Shape& shape,
                               const Checkpoint& checkpoint) {
  check(tensor.shape == shape, ErrorCode::format,
        "[model] '{}': tensor {} has shape [{}], config.json says [{}]",
        checkpoint.directory().string(), tensor.name, fmt::join(tensor.shape, ", "),
        fmt::join(shape, ", "));
  return tensor;
}

// Where a block's tensors lie. Files keep the names that a model was published with; a saved state
// of the modules themselves has those of the modules.
struct BlockNames {
  std::string prefix;  // up to the dot before "experts"
  const StoredTensor* router = nullptr;
};

BlockNames find_block(Checkpoint& checkpoint, std::int64_t layer) {
  std::string tried;
  for (const char* root : {"model.", ""}) {
    for (const char* block : {"block_sparse_moe.", "mlp."}) {
      for (const char* router : {"gate.weight", "router.weight"}) {
        const std::string prefix = fmt::format("{}layers.{}.{}", root, layer, block);
        if (const StoredTensor* found = checkpoint.find(prefix + router); found != nullptr) {
          return {.prefix = prefix, .router = found};
        }
        tried += (tried.empty() ? "" : ", ") + prefix + router;
      }
    }
  }
  fail(ErrorCode::format, "[model] '{}' has no router for layer {}: none of {}",
       checkpoint.directory().string(), layer, tried);
}

// The stored experts of a block: either one fused tensor per matrix or one per expert.
struct StoredExperts {
  const StoredTensor* fused_gate_up = nullptr;  // [E, 2 * I, H]
  const StoredTensor* fused_down = nullptr;     // [E, H, I]
  struct Expert {
    const StoredTensor *gate, *up, *down;  // [I, H], [I, H], [H, I]
  };
  std::vector<Expert> experts;
};

// Shapes are checked here, before memory is taken by what config.json claims.
StoredExperts find_experts(Checkpoint& checkpoint, const std::string& prefix, const MoeDesc& desc) {
  const std::int64_t inter = desc.intermediate;
  StoredExperts result;
  result.fused_gate_up = checkpoint.find(prefix + "experts.gate_up_proj");
  if (result.fused_gate_up != nullptr) {
    with_shape(*result.fused_gate_up, {desc.num_experts, 2 * inter, desc.hidden}, checkpoint);
    result.fused_down = &with_shape(checkpoint.tensor(prefix + "experts.down_proj"),
                                    {desc.num_experts, desc.hidden, inter}, checkpoint);
    return result;
  }
  const bool numbered = checkpoint.find(prefix + "experts.0.w1.weight") != nullptr;
  const std::array<const char*, 3> names =
      numbered ? std::array{"w1", "w3", "w2"} : std::array{"gate_proj", "up_proj", "down_proj"};
  for (std::int64_t e = 0; e < desc.num_experts; ++e) {
    const auto matrix = [&](const char* name, const Shape& shape) {
      const std::string full_name = fmt::format("{}experts.{}.{}.weight", prefix, e, name);
      return &with_shape(checkpoint.tensor(full_name), shape, checkpoint);
    };
    result.experts.push_back({.gate = matrix(names[0], {inter, desc.hidden}),
                              .up = matrix(names[1], {inter, desc.hidden}),
                              .down = matrix(names[2], {desc.hidden, inter})});
  }
  return result;
}

void load_experts(const StoredExperts& stored, MoeBlock& block) {
  const MoeDesc& desc = block.desc;
  const std::int64_t matrix = desc.intermediate * desc.hidden;
  const auto element = static_cast<std::int64_t>(size_of(desc.dtype));
  block.gate_up = AlignedBytes(static_cast<std::size_t>(desc.num_experts * 2 * matrix * element));
  block.down = AlignedBytes(static_cast<std::size_t>(desc.num_experts * matrix * element));
  std::byte* gate_up = block.gate_up.data();
  std::byte* down = block.down.data();
  if (stored.fused_gate_up != nullptr) {
    convert_elements(*stored.fused_gate_up, 0, desc.num_experts * 2 * matrix, desc.dtype, gate_up);
    convert_elements(*stored.fused_down, 0, desc.num_experts * matrix, desc.dtype, down);
    return;
  }
  for (const StoredExperts::Expert& expert : stored.experts) {
    convert_elements(*expert.gate, 0, matrix, desc.dtype, gate_up);
    convert_elements(*expert.up, 0, matrix, desc.dtype, gate_up + matrix * element);
    convert_elements(*expert.down, 0, matrix, desc.dtype, down);
    gate_up += 2 * matrix * element;
    down += matrix * element;
  }
}

SharedExpert load_shared(Checkpoint& checkpoint, const std::string& prefix, std::int64_t inter,
                         std::int64_t hidden) {
  const auto load = [&](const char* name, const Shape& shape) {
    return to_float32(with_shape(checkpoint.tensor(prefix + name), shape, checkpoint));
  };
  return {.intermediate = inter,
          .gate = load("shared_expert.gate_proj.weight", {inter, hidden}),
          .up = load("shared_expert.up_proj.weight", {inter, hidden}),
          .down = load("shared_expert.down_proj.weight", {hidden, inter}),
          .gate_weight = load("shared_expert_gate.weight", {1, hidden})};
}

void check_layer(const HfMoeConfig& config, std::int64_t layer, const std::string& directory) {
  check(layer >= 0 && layer < config.num_layers, ErrorCode::out_of_range,
        "[model] '{}': layer {}, allowed 0 to {}", directory, layer, config.num_layers - 1);
  if (config.is_moe_layer(layer)) return;
  constexpr std::size_t kMostListed = 8;
  std::vector<std::string> sparse;
  for (std::int64_t l = 0; l < config.num_layers && sparse.size() <= kMostListed; ++l) {
    if (config.is_moe_layer(l)) sparse.push_back(std::to_string(l));
  }
  if (sparse.empty()) sparse.emplace_back("none");
  if (sparse.size() > kMostListed) sparse.back() = "...";
  fail(ErrorCode::out_of_range, "[model] '{}': layer {} is dense; its MoE layers are {}", directory,
       layer, fmt::join(sparse, ", "));
}

}  // namespace

AlignedBytes::AlignedBytes(std::size_t bytes)
    : data_(static_cast<std::byte*>(::operator new(bytes, std::align_val_t(kAlignment)))),
      size_(bytes) {}

void AlignedBytes::Free::operator()(std::byte* pointer) const noexcept {
  ::operator delete(pointer, std::align_val_t(kAlignment));
}

MoeBlock load_moe_block(const std::filesystem::path& directory, std::int64_t layer, DType dtype) {
  const std::filesystem::path config_path = directory / "config.json";
  const HfMoeConfig config =
      parse_hf_config(read_text_file(config_path, kMaxConfigBytes), config_path.string());
  check_layer(config, layer, directory.string());
  Checkpoint checkpoint = Checkpoint::open(directory);

  MoeBlock block;
  block.model_type = config.model_type;
  block.layer = layer;
  block.desc = config.desc;
  block.desc.dtype = dtype;
  block.router = config.router;
  const BlockNames names = find_block(checkpoint, layer);
  block.router_weight = to_float32(
      with_shape(*names.router, {config.desc.num_experts, config.desc.hidden}, checkpoint));
  load_experts(find_experts(checkpoint, names.prefix, config.desc), block);
  if (config.shared_intermediate > 0) {
    block.shared =
        load_shared(checkpoint, names.prefix, config.shared_intermediate, config.desc.hidden);
  }
  return block;
}

}  // namespace comet
