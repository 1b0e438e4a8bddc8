// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>

#include "backend/cpu/engine.hpp"
#include "backend/cpu/remote_ops.hpp"
#include "backend/ref/reference.hpp"
#include "base/check.hpp"
#include "base/trace_span.hpp"
#include "layer/auto_options.hpp"
#include "layer/call_options.hpp"
#include "layer/layer_parts.hpp"
#include "layer/publish.hpp"
#include "layer/workspace.hpp"

namespace comet {
namespace {

using Clock = std::chrono::steady_clock;

double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

class CpuMoeLayer final : public MoeLayer {
 public:
  explicit CpuMoeLayer(const LayerParts& parts)
      : desc_(parts.desc),
        parallel_(parts.parallel),
        dims_(parts.dims),
        weights_(parts.weights),
        world_(*parts.world),
        max_rows_(parts.options.max_rows),
        workspace_(parts.workspace),
        layer_id_(workspace_->next_layer_id()),
        ep_rank_of_(expert_owners(desc_, parallel_)),
        local_of_(local_indices(ep_rank_of_, parallel_.ep)),
        engine_(desc_, dims_, weights_, world_.view(), parts.options.num_workers),
        auto_(parts.auto_options) {}

  CallStats forward(const ConstMatrixView& x, const RoutingView& routing, const MatrixView& y,
                    const ForwardOptions& options) override;
  CallStats check() override;
  double replay_compute() override;
  std::string explain_choice(std::int64_t tokens) override { return auto_.explain(tokens); }

  std::int64_t workspace_bytes() const noexcept override { return workspace_->layout().bytes; }
  std::int64_t local_bytes() const noexcept override { return engine_.local_bytes(); }
  std::shared_ptr<Workspace> workspace() const noexcept override { return workspace_; }

 private:
  TraceSpan begin(const ForwardOptions& options, TraceKind phase) const;
  void run(const ForwardOptions& options, const RunConfig& config, std::uint32_t epoch,
           const MatrixView& y, CallStats& stats);
  void plan_call(const RunConfig& config, CallStats& stats);
  void check_capacity(const PlanProblem& problem) const;
  EngineCall make_engine_call(const ForwardOptions& options, const RunConfig& config,
                              std::uint32_t epoch, const MatrixView& y) const;
  void abandon(std::uint32_t epoch, const MatrixView& y, std::int64_t tokens) const;
  void fill_with_nan(const MatrixView& y, std::int64_t tokens) const;

  const MoeDesc desc_;
  const ParallelDesc parallel_;
  const LayerDims dims_;
  const MoeWeights weights_;
  World& world_;
  const std::int64_t max_rows_;
  std::shared_ptr<Workspace> workspace_;
  const std::int64_t layer_id_;
  const std::vector<std::int32_t> ep_rank_of_;  // [E]
  const std::vector<std::int32_t> local_of_;    // [E] index at the owner
  CpuEngine engine_;
  AutoOptions auto_;

  Published published_;
  Plan plan_;
  PlanScratch plan_scratch_;
  std::optional<EngineCall> last_call_;  // for replay_compute
  CallStats last_stats_;                 // for check
};

// Every phase outside the engine begins here: the probe, then its interval in the trace.
TraceSpan CpuMoeLayer::begin(const ForwardOptions& options, TraceKind phase) const {
  if (options.probe) {
    try {
      options.probe({phase, dims_.rank, 0});
    } catch (const Error& error) {  // unlike an input fault, only this rank has it
      world_.view().report_failure(error.code(),
                                   fmt::format("[forward] rank {}: {}", dims_.rank, error.what()));
      world_.view().failures->rethrow(dims_.rank);
    }
  }
  TraceEvent event;
  event.kind = phase;
  event.rank = dims_.rank;
  return TraceSpan(options.trace, event);
}

CallStats CpuMoeLayer::forward(const ConstMatrixView& x, const RoutingView& routing,
                               const MatrixView& y, const ForwardOptions& asked) {
  const ForwardOptions options = auto_.resolve(asked);
  WorldView& world = world_.view();
  if (world.failures->failed()) world.failures->rethrow(world.rank);
  const Clock::time_point start = Clock::now();
  CallStats stats;
  std::optional<InputFault> fault = find_option_fault(dims_, options);
  if (!fault) fault = find_input_fault(dims_, desc_.dtype, x, routing, y);
  const RunConfig config =
      make_run_config(dims_, fault ? ForwardOptions{.schedule = options.schedule} : options);
  const std::uint32_t epoch = ++world.epoch;
  last_call_.reset();
  last_stats_ = {};
  const std::int64_t sent_before = world.remote != nullptr ? world.remote->bytes_put() : 0;
  try {
    {
      world.progress->set(world.rank, {epoch, Stage::publish, -1});
      const TraceSpan span = begin(options, TraceKind::publish);
      publish(*workspace_, dims_, epoch,
              config_hash(desc_, parallel_, dims_, config, max_rows_, layer_id_), x, routing,
              fault);
      announce(*workspace_, dims_, epoch, options.schedule == Schedule::reference);
    }
    stats.t_publish_us = microseconds_since(start);
    run(options, config, epoch, y, stats);
  } catch (const Error&) {  // all ranks throw alike, or the world has failed
    abandon(epoch, y, routing.tokens);
    throw;
  } catch (const std::exception& error) {  // the others must not wait for this rank
    abandon(epoch, y, routing.tokens);
    world.report_failure(ErrorCode::internal,
                         fmt::format("[forward] rank {}: {}", world.rank, error.what()));
    world.failures->rethrow(world.rank);
  } catch (...) {
    abandon(epoch, y, routing.tokens);
    world.report_failure(ErrorCode::internal,
                         fmt::format("[forward] rank {}: unknown exception", world.rank));
    world.failures->rethrow(world.rank);
  }
  world.progress->set(world.rank, {epoch, Stage::idle, -1});
  stats.t_layer_us = microseconds_since(start);
  if (world.remote != nullptr) stats.host_bytes_sent = world.remote->bytes_put() - sent_before;
  last_stats_ = stats;
  return stats;
}

// A call that failed has thrown already, from forward.
CallStats CpuMoeLayer::check() { return last_stats_; }

void CpuMoeLayer::run(const ForwardOptions& options, const RunConfig& config, std::uint32_t epoch,
                      const MatrixView& y, CallStats& stats) {
  const Clock::time_point start = Clock::now();
  {
    const TraceSpan span = begin(options, TraceKind::headers);
    read_headers(*workspace_, dims_, epoch, published_);
  }
  stats.metadata_bytes_in = published_.metadata_bytes_in;
  stats.choices = {.schedule = options.schedule};
  const WorldView& world = world_.view();
  if (options.schedule == Schedule::reference) {
    world.progress->set(world.rank, {epoch, Stage::reference, -1});
    run_reference({.desc = &desc_,
                   .dims = dims_,
                   .weights = weights_,
                   .ep_rank_of = ep_rank_of_.data(),
                   .local_of = local_of_.data(),
                   .tokens = published_.tokens.data(),
                   .peers = workspace_->peers(),
                   .layout = workspace_->layout(),
                   .epoch = epoch,
                   .y = y},
                  world_.view());
    return;
  }
  {
    world.progress->set(world.rank, {epoch, Stage::plan, -1});
    const TraceSpan span = begin(options, TraceKind::plan);
    plan_call(config, stats);
  }
  stats.t_plan_us = microseconds_since(start);
  world.progress->set(world.rank, {epoch, Stage::dispatch_gemm, -1});
  const EngineCall call = make_engine_call(options, config, epoch, y);
  stats.choices = {.schedule = options.schedule,
                   .groups = config.groups,
                   .panel = config.panel,
                   .chunk = config.chunk,
                   .n_c_dispatch = call.n_c_dispatch,
                   .n_c_combine = call.n_c_combine};
  engine_.run(call);
  last_call_ = call;
  last_call_->probe = nullptr;
  last_call_->trace = nullptr;
}

void CpuMoeLayer::plan_call(const RunConfig& config, CallStats& stats) {
  const PlanProblem problem{.world = dims_.world,
                            .rank = dims_.rank,
                            .tp = dims_.tp,
                            .topk = dims_.topk,
                            .num_local = dims_.num_local,
                            .block_m = static_cast<std::int32_t>(dims_.block_m),
                            .groups = config.groups,
                            .ep_rank_of = ep_rank_of_.data(),
                            .local_of = local_of_.data(),
                            .tokens = published_.tokens.data(),
                            .ids = published_.ids.data()};
  if (max_rows_ > 0) check_capacity(problem);
  build_plan(problem, plan_scratch_, plan_);
  stats.metadata_bytes_in += plan_.tokens_in * dims_.weight_bytes();
  stats.rows = plan_.num_rows;
  stats.tiles = plan_.num_tiles();
  stats.dispatch_bytes_in = stats.combine_bytes_out = plan_.tokens_in * dims_.row_bytes();
  stats.dispatch_bytes_out = stats.combine_bytes_in = plan_.tokens_out * dims_.row_bytes();
  if (world_.view().remote == nullptr) return;
  stats.host_bytes_planned = announced_bytes(dims_, published_.tokens[dims_.rank], world_.view()) +
                             planned_bytes(plan_, dims_, world_.view());
}

void CpuMoeLayer::check_capacity(const PlanProblem& problem) const {
  for (std::int64_t ep_rank = 0; ep_rank < parallel_.ep; ++ep_rank) {
    const std::int64_t needed = padded_rows(problem, dims_.num_experts, ep_rank);
    comet::check(needed <= max_rows_, ErrorCode::capacity,
                 "[plan] EP rank {} needs {} rows (whole tiles of {}), max_rows is {}", ep_rank,
                 needed, dims_.block_m, max_rows_);
  }
}

EngineCall CpuMoeLayer::make_engine_call(const ForwardOptions& options, const RunConfig& config,
                                         std::uint32_t epoch, const MatrixView& y) const {
  const int workers = engine_.num_workers();
  // One communication worker keeps sixteen transfers on the link; a lone worker does everything.
  const auto choose = [&](int wished) {
    return wished < 0 ? (workers > 1 ? 1 : 0) : std::min(wished, workers);
  };
  EngineCall call{.plan = &plan_,
                  .config = config,
                  .gate = options.schedule == Schedule::comet ? Gate::tile : Gate::group,
                  .epoch = epoch,
                  .peers = workspace_->peers(),
                  .layout = workspace_->layout(),
                  .y = y,
                  .n_c_dispatch = choose(options.n_c_dispatch),
                  .n_c_combine = choose(options.n_c_combine),
                  .reserved_roles = false,
                  .probe = options.probe ? &options.probe : nullptr,
                  .trace = options.trace};
  if (options.schedule == Schedule::sequential) call.n_c_dispatch = call.n_c_combine = 0;
  if (options.schedule == Schedule::pipelined) {
    // The same workers are reserved for the copies of both stages, and at least one computes.
    call.n_c_dispatch = std::clamp(call.n_c_dispatch, 0, workers - 1);
    call.n_c_combine = call.n_c_dispatch;
    call.reserved_roles = true;
  }
  return call;
}

void CpuMoeLayer::abandon(std::uint32_t epoch, const MatrixView& y, std::int64_t tokens) const {
  world_.view().progress->set(dims_.rank, {epoch, Stage::idle, -1});
  fill_with_nan(y, tokens);
}

void CpuMoeLayer::fill_with_nan(const MatrixView& y, std::int64_t tokens) const {
  if (y.data == nullptr || y.rows != tokens || y.cols != dims_.hidden || y.dtype != desc_.dtype) {
    return;
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (std::int64_t t = 0; t < y.rows; ++t) {
    if (desc_.dtype == DType::f32) {
      std::fill_n(static_cast<float*>(y.data) + t * y.row_stride, y.cols, nan);
    } else {
      std::fill_n(static_cast<bf16*>(y.data) + t * y.row_stride, y.cols, to_bf16(nan));
    }
  }
}

double CpuMoeLayer::replay_compute() {
  comet::check(last_call_.has_value(), ErrorCode::invalid_argument,
               "[replay_compute] needs a tiled forward that succeeded before it");
  world_.barrier();
  const Clock::time_point start = Clock::now();
  engine_.replay_compute(*last_call_);
  const double mine = microseconds_since(start);
  std::vector<double> all(world_.size());
  world_.all_gather(&mine, all.data(), sizeof(double));
  return *std::max_element(all.begin(), all.end());
}

}  // namespace

std::unique_ptr<MoeLayer> make_cpu_layer(const LayerParts& parts) {
  return std::make_unique<CpuMoeLayer>(parts);
}

}  // namespace comet
