// SPDX-License-Identifier: Apache-2.0
// One MoE block of a Hugging Face checkpoint: router, experts and shared expert, in memory of its
// own, with views for every rank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "comet/desc.hpp"
#include "comet/router.hpp"
#include "comet/tensor_view.hpp"
#include "comet/weights.hpp"
#include "models/hf_config.hpp"

namespace comet {

/// An expert that every token takes (Qwen2-MoE):
/// y += sigmoid(gate_weight . x) * down(f(gate x) * (up x)).
struct SharedExpert {
  std::int64_t intermediate = 0;   ///< S
  std::vector<float> gate;         ///< [S, H]
  std::vector<float> up;           ///< [S, H]
  std::vector<float> down;         ///< [H, S]
  std::vector<float> gate_weight;  ///< [H]
};

/// Memory aligned to 64 bytes.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  explicit AlignedBytes(std::size_t bytes);
  std::byte* data() noexcept { return data_.get(); }
  const std::byte* data() const noexcept { return data_.get(); }
  std::size_t size() const noexcept { return size_; }

 private:
  struct Free {
    void operator()(std::byte* pointer) const noexcept;
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_ = 0;
};

/// One MoE block. Movable; views of it live as long as it does (a move keeps them valid).
struct MoeBlock {
  HfModelType model_type = HfModelType::mixtral;
  std::int64_t layer = 0;
  /// max_tokens is 0; set it, and expert_owner if wished, before making a layer.
  MoeDesc desc;
  RouterDesc router;
  std::vector<float> router_weight;  ///< [E, H]
  AlignedBytes gate_up;              ///< [E, 2 * I, H] of desc.dtype: I rows of gate, I rows of up.
  AlignedBytes down;                 ///< [E, H, I] of desc.dtype.
  std::optional<SharedExpert> shared;
};

/// Views of one rank's slice, and the pointer lists that they may use. Moving keeps them valid.
struct RankWeights {
  MoeWeights weights;
  std::vector<const void*> gate_up_list, down_list;  // used if the experts are not neighbours

  RankWeights() = default;
  RankWeights(RankWeights&&) = default;
  RankWeights& operator=(RankWeights&&) = default;
};

/// Reads layer `layer` (0-based decoder layer) of the checkpoint in `directory`: config.json and
/// model.safetensors, or shards with an index. Weights are rounded to `dtype`; the router and the
/// shared expert stay float32. Throws Error(io), Error(format) naming file and tensor,
/// Error(unsupported), or Error(out_of_range) if the model has no such layer or it is dense.
MoeBlock load_moe_block(const std::filesystem::path& directory, std::int64_t layer, DType dtype);

/// The weights of rank (ep_rank, tp_rank), as views into the block, nothing copied: of the experts
/// that block.desc places on ep_rank, rows of gate and up and columns of down. Throws
/// Error(invalid_argument) if block.desc and `parallel` do not fit, Error(out_of_range) for ranks.
RankWeights rank_weights(const MoeBlock& block, const ParallelDesc& parallel, std::int64_t ep_rank,
                         std::int64_t tp_rank);

/// Router logits [T, E] of tokens x [T, H] of any dtype: x times the router's transposed weight,
/// summed in double, rounded to float32.
std::vector<float> router_logits(const MoeBlock& block, const ConstMatrixView& x);

/// Adds the shared expert's output for x [T, H] to y [T, H]; sums are in double. Does nothing if
/// the block has none.
void apply_shared_expert(const MoeBlock& block, const ConstMatrixView& x, const MatrixView& y);

}  // namespace comet
