// SPDX-License-Identifier: Apache-2.0
// Layer: one MoE layer on the ranks of a WorldPart, called with the tokens of all of them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "comet/layer.hpp"
#include "expert_weights.hpp"
#include "world_part.hpp"

namespace comet::python {

/// As its Python constructor gets it.
struct LayerSpec {
  std::int64_t topk = 0;
  std::int64_t max_tokens = 0;  ///< Of all ranks here together.
  std::int64_t ep = 1;
  std::int64_t tp = 1;
  std::string activation = "silu";
  std::string gate_layout = "gate_up";
  std::string weight_position = "after_down";
  int workers = 0;  ///< Threads of each rank; 0: cores / ranks, at least 1.
  /// Experts of all ranks, where the weights are this process's own part of them; 0: they are
  /// whole.
  std::int64_t num_experts = 0;
};

/// As forward gets it.
struct CallSpec {
  std::string schedule = "auto";  ///< Or a Schedule's name.
  std::int64_t groups = 0;        ///< This and the next three as in ForwardOptions.
  std::int64_t panel = 0;
  int n_c_dispatch = -1;
  int n_c_combine = -1;
  std::string placement = "warps";  ///< A Placement's name.
  std::int64_t waves = 0;           ///< As in ForwardOptions.
  /// Of all ranks, for what chooses; 0: as many as x has where all ranks are here, else as many as
  /// the layer was made for.
  std::int64_t expected_tokens = 0;
  bool is_traced = false;
};

/// What forward reads and writes: tokens [T, H] of all ranks here.
struct CallViews {
  ConstMatrixView x;
  RoutingView routing;
  std::int64_t topk = 0;  ///< Columns of ids and weights.
  MatrixView out;
  void* stream = nullptr;  ///< cuda: the caller's.
};

/// The arrays of a call; throws Error(invalid_argument or unsupported).
class CallArrays {
 public:
  CallArrays(nb::handle x, nb::handle ids, nb::handle weights, nb::handle out);

  /// Valid as long as this; throws what does not fit.
  CallViews views(const Place& place) const;
  /// Whether what must be dense is: else the caller makes copies.
  bool are_dense() const { return is_dense(ids_) && is_dense(weights_); }
  std::int64_t topk() const noexcept;    ///< -1 if ids have not two axes.
  std::int64_t tokens() const noexcept;  ///< -1 if x has not two axes.

 private:
  Array x_;
  Array ids_;
  Array weights_;
  Array out_;
};

/// Keeps its world and its weights.
class Layer {
 public:
  Layer(std::shared_ptr<WorldPart> world, const nb::list& w13, const nb::list& w2,
        const LayerSpec& spec);
  ~Layer();
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;

  const MoeDesc& desc() const noexcept { return desc_; }
  const ParallelDesc& parallel() const noexcept { return parallel_; }
  WorldPart& world() noexcept { return *world_; }
  std::int64_t max_tokens() const noexcept { return max_tokens_; }
  /// Of a rank: the world's workspace, which all layers share, and what the layer has alone.
  std::int64_t workspace_bytes() const noexcept;
  std::int64_t local_bytes() const noexcept;  ///< Of a rank: what the layer has alone.
  int workers() const noexcept { return workers_; }

  /// Tokens are cut into as many equal parts as there are ranks here. May wait, without Python's
  /// lock; on GPUs it queues the call, and waits only if it is traced. Returns the events of each
  /// rank here, if they are asked for.
  std::vector<Trace> forward(const CallArrays& arrays, const CallSpec& spec);

  /// What the last call did on each rank here. On GPUs it waits for that call and throws its fault.
  std::vector<CallStats> check();
  /// See MoeLayer::explain_choice. Takes turns with calls; ranks that are processes need not make
  /// it together.
  std::string explain_choice(std::int64_t tokens);

 private:
  Schedule schedule_of(const CallSpec& spec, std::int64_t tokens) const;
  ForwardOptions options_of(const CallSpec& spec, const CallViews& views) const;
  void check_views(const CallViews& views) const;

  std::shared_ptr<WorldPart> world_;
  WeightArrays w13_;
  WeightArrays w2_;
  MoeDesc desc_;
  ParallelDesc parallel_;
  Place place_;
  std::int64_t max_tokens_;
  int workers_;                                    // of each rank
  std::vector<RankWeights> rank_weights_;          // [ranks here]
  std::vector<std::unique_ptr<MoeLayer>> layers_;  // [ranks here]
};

}  // namespace comet::python
