// SPDX-License-Identifier: Apache-2.0
#include "cli/run_layer.hpp"

#include <cstring>
#include <initializer_list>
#include <memory>
#include <span>

#include "cli/split.hpp"
#include "comet/router.hpp"
#include "layer/rank_memory.hpp"

namespace comet::cli {
namespace {

// One call of all ranks, into rows of `y` and entries of `stats` (if any) that are each rank's own.
struct Pass {
  Tokens& y;
  ForwardOptions options;
  std::vector<CallStats>* stats = nullptr;
};

std::int64_t bytes_of(const ConstMatrixView& x) {
  return x.rows * x.cols * static_cast<std::int64_t>(size_of(x.dtype));
}

// The rank's slice of the experts where its layer reads it; `weights` owns lists on the host.
MoeWeights place_weights(const MoeBlock& block, const RankWeights& weights, RankMemory& memory) {
  for (const AlignedBytes* experts : {&block.gate_up, &block.down}) {
    memory.place_shared(experts->data(), static_cast<std::int64_t>(experts->size()));
  }
  return memory.locate(weights.weights, static_cast<std::int64_t>(weights.down_list.size()));
}

// The body of one rank.
void run_rank(const LayerRun& run, World& world, std::initializer_list<Pass> passes) {
  const MoeBlock& block = run.block;
  const std::int64_t rank = world.rank();
  RankMemory memory(world);
  const RankWeights weights =
      rank_weights(block, run.parallel, rank / run.parallel.tp, rank % run.parallel.tp);
  const std::unique_ptr<MoeLayer> layer = MoeLayer::create(
      block.desc, run.parallel, place_weights(block, weights, memory), world, run.layer);

  const TokenShare share = token_share(run.x.rows, world.size(), rank);
  const ConstMatrixView x = run.x.view(share.begin, share.count);
  const Routing routing = route(block.router, router_logits(block, x).data(), share.count);
  const auto entries = static_cast<std::int64_t>(routing.ids.size());
  ConstMatrixView layer_x = x;
  layer_x.data = memory.place(x.data, bytes_of(x));
  const RoutingView choices{
      memory.place(routing.ids.data(), entries * static_cast<std::int64_t>(sizeof(std::int32_t))),
      memory.place(routing.weights.data(), entries * static_cast<std::int64_t>(sizeof(float))),
      share.count};
  void* const placed_y = memory.is_host() ? nullptr : memory.reserve(bytes_of(x));
  for (const Pass& pass : passes) {
    const MatrixView y = pass.y.view(share.begin, share.count);
    MatrixView layer_y = y;
    if (placed_y != nullptr) layer_y.data = placed_y;
    layer->forward(layer_x, choices, layer_y, pass.options);
    const CallStats stats = layer->check();
    if (placed_y != nullptr) memory.download(y.data, placed_y, bytes_of(x));
    apply_shared_expert(block, x, y);
    if (pass.stats != nullptr) (*pass.stats)[rank] = stats;
  }
}

// Rows of y of the ranks that are other processes.
void share_rows(World& world, Tokens& y) {
  const auto bytes_of_row = static_cast<std::size_t>(y.hidden) * size_of(y.dtype);
  const TokenShare own = token_share(y.rows, world.size(), world.rank());
  const auto all = gather_bytes(
      world, std::span(y.data).subspan(static_cast<std::size_t>(own.begin) * bytes_of_row,
                                       static_cast<std::size_t>(own.count) * bytes_of_row));
  std::size_t at = 0;
  for (const std::vector<std::byte>& rows : all) {
    if (!rows.empty()) std::memcpy(y.data.data() + at, rows.data(), rows.size());
    at += rows.size();
  }
}

void share_result(World& world, LayerResult& result) {
  share_rows(world, result.y);
  if (result.reference) share_rows(world, *result.reference);
  const CallStats own = result.stats[static_cast<std::size_t>(world.rank())];
  world.all_gather(&own, result.stats.data(), sizeof(own));
}

}  // namespace

LayerResult run_layer(const LayerRun& run) {
  const auto ranks = static_cast<int>(run.parallel.world_size());
  run.block.desc.max_tokens = token_share(run.x.rows, ranks, 0).count;
  validate(run.block.desc, run.parallel);
  LayerResult result{.y = Tokens(run.x.rows, run.x.hidden, run.x.dtype),
                     .reference = std::nullopt,
                     .stats = std::vector<CallStats>(ranks)};
  if (run.is_checked) result.reference.emplace(run.x.rows, run.x.hidden, run.x.dtype);
  const ForwardOptions reference{.schedule = Schedule::reference};
  const bool in_one_world = run.is_checked && run.backend == Backend::cpu;
  run.world(ranks, {.link = run.link, .backend = run.backend}, [&](World& world) {
    if (world.rank() == 0) result.device = describe_device(world);
    const Pass wished{result.y, run.forward, &result.stats};
    if (in_one_world) {
      run_rank(run, world, {wished, {*result.reference, reference}});
    } else {
      run_rank(run, world, {wished});
    }
    if (!is_one_process(world)) share_result(world, result);
  });
  if (run.is_checked && !in_one_world) {
    run_local_world(ranks, {}, [&](World& world) {
      run_rank(run, world, {{*result.reference, reference}});
    });
  }
  return result;
}

}  // namespace comet::cli
