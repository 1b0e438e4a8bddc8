// SPDX-License-Identifier: Apache-2.0
#include "cli/run_layer.hpp"

#include <memory>

#include "cli/split.hpp"
#include "comet/router.hpp"

namespace comet::cli {
namespace {

// The body of one rank. Ranks write disjoint rows of y and disjoint entries of stats.
void run_rank(const LayerRun& run, World& world, LayerResult& result) {
  const MoeBlock& block = run.block;
  const std::int64_t rank = world.rank();
  const RankWeights weights =
      rank_weights(block, run.parallel, rank / run.parallel.tp, rank % run.parallel.tp);
  const std::unique_ptr<MoeLayer> layer =
      MoeLayer::create(block.desc, run.parallel, weights.weights, world, run.layer);

  const TokenShare share = token_share(run.x.rows, world.size(), rank);
  const ConstMatrixView x = run.x.view(share.begin, share.count);
  const Routing routing = route(block.router, router_logits(block, x).data(), share.count);
  const RoutingView choices{routing.ids.data(), routing.weights.data(), share.count};

  const auto forward = [&](Tokens& tokens, const ForwardOptions& options) {
    const MatrixView y = tokens.view(share.begin, share.count);
    const CallStats stats = layer->forward(x, choices, y, options);
    apply_shared_expert(block, x, y);
    return stats;
  };
  result.stats[rank] = forward(result.y, run.forward);
  if (result.reference) forward(*result.reference, {.schedule = Schedule::reference});
}

}  // namespace

LayerResult run_layer(const LayerRun& run) {
  const std::int64_t ranks = run.parallel.world_size();
  run.block.desc.max_tokens = token_share(run.x.rows, ranks, 0).count;
  validate(run.block.desc, run.parallel);
  LayerResult result{.y = Tokens(run.x.rows, run.x.hidden, run.x.dtype),
                     .reference = std::nullopt,
                     .stats = std::vector<CallStats>(ranks)};
  if (run.is_checked) result.reference.emplace(run.x.rows, run.x.hidden, run.x.dtype);
  run_local_world(static_cast<int>(ranks), {.link = run.link},
                  [&](World& world) { run_rank(run, world, result); });
  return result;
}

}  // namespace comet::cli
