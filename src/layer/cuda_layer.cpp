// SPDX-License-Identifier: Apache-2.0
// A layer on GPUs: what only a host can check, then everything is queued on the caller's stream.
#include <algorithm>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "backend/cuda/layer_engine.hpp"
#include "base/check.hpp"
#include "layer/agree.hpp"
#include "layer/backends.hpp"
#include "layer/call_options.hpp"
#include "layer/layer_parts.hpp"
#include "layer/publish.hpp"
#include "layer/workspace.hpp"
#include "layout/token_blocks.hpp"

namespace comet {
namespace {

// Of one transfer of the fused schedule. Many warps pull at once and share the link, so that small
// transfers bring the first tiles their rows earlier; but each costs a few microseconds.
constexpr std::int64_t kBytesOfPull = 16384;

CallChoices choices_of(const cuda::QueuedCall& call) {
  CallChoices choices{.schedule = call.schedule,
                      .groups = call.config.groups,
                      .panel = call.config.panel,
                      .chunk = call.config.chunk};
  if (call.schedule == Schedule::pipelined) {
    choices.n_c_dispatch = choices.n_c_combine = call.reserved;
  }
  if (call.schedule == Schedule::comet) {
    choices.n_c_dispatch = call.n_c_dispatch;
    choices.n_c_combine = call.n_c_combine;
    choices.placement = call.placement;
    choices.waves = call.waves;
  }
  return choices;
}

class CudaMoeLayer final : public MoeLayer {
 public:
  explicit CudaMoeLayer(const LayerParts& parts)
      : desc_(parts.desc),
        parallel_(parts.parallel),
        dims_(parts.dims),
        world_(*parts.world),
        options_(parts.options),
        workspace_(parts.workspace),
        layer_id_(workspace_->next_layer_id()),
        auto_(parts.auto_options),
        engine_(make_engine(parts)) {
    options_.workspace.reset();  // or a workspace would own itself
  }
  ~CudaMoeLayer() override;

  CallStats forward(const ConstMatrixView& x, const RoutingView& routing, const MatrixView& y,
                    const ForwardOptions& options) override;
  CallStats check() override;
  double replay_compute() override;
  std::string explain_choice(std::int64_t tokens) override { return auto_.explain(tokens); }

  std::int64_t workspace_bytes() const noexcept override { return workspace_->layout().bytes; }
  std::int64_t local_bytes() const noexcept override { return engine_->local_bytes(); }
  std::shared_ptr<Workspace> workspace() const noexcept override { return workspace_; }

 private:
  static std::unique_ptr<cuda::LayerEngine> make_engine(const LayerParts& parts);
  std::optional<InputFault> find_fault(const ConstMatrixView& x, const RoutingView& routing,
                                       const MatrixView& y, const ForwardOptions& options) const;
  bool is_writable(const MatrixView& y) const;
  int reserved_for(const ForwardOptions& options) const;

  const MoeDesc desc_;
  const ParallelDesc parallel_;
  const LayerDims dims_;
  World& world_;
  LayerOptions options_;
  std::shared_ptr<Workspace> workspace_;
  const std::int64_t layer_id_;
  AutoOptions auto_;
  std::unique_ptr<cuda::LayerEngine> engine_;
  CallChoices last_choices_;
  bool has_run_ = false;
};

std::unique_ptr<cuda::LayerEngine> CudaMoeLayer::make_engine(const LayerParts& parts) {
  const std::vector<std::int32_t> owners = expert_owners(parts.desc, parts.parallel);
  const std::vector<std::int32_t> local = local_indices(owners, parts.parallel.ep);
  std::unique_ptr<cuda::LayerEngine> engine;
  // Collective: a rank that cannot have its buffers must not leave the others in their first call.
  agree(
      *parts.world,
      [&] {
        engine = cuda::make_layer_engine({.desc = parts.desc,
                                          .dims = parts.dims,
                                          .weights = parts.weights,
                                          .world = &parts.world->view(),
                                          .ep_rank_of = owners.data(),
                                          .local_of = local.data(),
                                          .peers = parts.workspace->peers(),
                                          .max_rows = parts.options.max_rows,
                                          .max_groups = parts.options.max_groups});
      },
      0, "layer");
  return engine;
}

// Other ranks' kernels may still read this rank's memory, and use what the engine holds; and
// freeing that may wait for all kernels, of which those of a rank that went on would wait for this
// one.
CudaMoeLayer::~CudaMoeLayer() {
  WorldView& view = world_.view();
  try {
    view.device->make_current();
    view.device->drain();
    if (view.failures->failed()) return;  // then all kernels leave by themselves
    world_.barrier();
    engine_.reset();
    world_.barrier();
  } catch (const Error&) {  // reported to the world; a destructor must not throw
  }
}

std::optional<InputFault> CudaMoeLayer::find_fault(const ConstMatrixView& x,
                                                   const RoutingView& routing, const MatrixView& y,
                                                   const ForwardOptions& options) const {
  const auto fault = [&](ErrorCode code, const std::string& what) {
    return InputFault{code, fmt::format("[forward] rank {}: {}", dims_.rank, what)};
  };
  if (auto found = find_option_fault(dims_, options)) return found;
  if (options.schedule == Schedule::reference) {
    return fault(ErrorCode::unsupported, "schedule reference runs on cpu only");
  }
  if (options.schedule != Schedule::sequential && options.groups > options_.max_groups) {
    return fault(ErrorCode::invalid_argument,
                 fmt::format("groups is {}, LayerOptions::max_groups {}", options.groups,
                             options_.max_groups));
  }
  return find_view_fault(dims_, desc_.dtype, x, routing, y);
}

bool CudaMoeLayer::is_writable(const MatrixView& y) const {
  return y.data != nullptr && y.cols == dims_.hidden && y.dtype == desc_.dtype;
}

int CudaMoeLayer::reserved_for(const ForwardOptions& options) const {
  const int multiprocessors = world_.view().device->multiprocessors();
  const int wished = options.n_c_dispatch >= 0 ? options.n_c_dispatch : multiprocessors / 8;
  return std::clamp(wished, 1, multiprocessors - 1);
}

CallStats CudaMoeLayer::forward(const ConstMatrixView& x, const RoutingView& routing,
                                const MatrixView& y, const ForwardOptions& asked) {
  const ForwardOptions options = auto_.resolve(asked);
  WorldView& view = world_.view();
  if (view.failures->failed()) view.failures->rethrow(view.rank);
  if (options.probe) options.probe({TraceKind::publish, dims_.rank, 0});
  const std::optional<InputFault> fault = find_fault(x, routing, y, options);
  ForwardOptions chosen = fault ? ForwardOptions{.schedule = options.schedule} : options;
  if (chosen.schedule == Schedule::comet && chosen.chunk == 0) {
    chosen.chunk = std::clamp(kBytesOfPull / dims_.row_bytes(), std::int64_t{4}, kTokenBlock / 2);
  }
  const RunConfig config = make_run_config(dims_, chosen);
  cuda::QueuedCall call{
      .x = x,
      .routing = routing,
      .y = y,
      .fault = std::nullopt,
      .config = config,
      .schedule = options.schedule,
      .reserved = reserved_for(options),
      .n_c_dispatch = options.n_c_dispatch,
      .n_c_combine = options.n_c_combine,
      .placement = options.placement,
      .waves = options.waves,
      .follows_counts = asked.n_c_dispatch == -1 && asked.n_c_combine == -1,
      .config_hash = config_hash(desc_, parallel_, dims_, config, options_.max_rows, layer_id_),
      .peers = workspace_->peers(),
      .layout = workspace_->layout(),
      .trace = options.trace,
      .stream = options.stream != nullptr ? options.stream : world_.stream()};
  if (fault) call.fault = cuda::HostFault{fault->code, fault->sentence};
  if (!is_writable(y)) call.y.data = nullptr;
  engine_->queue(call);
  last_choices_ = choices_of(call);
  has_run_ = true;
  engine_->rethrow_earlier();
  return {};
}

CallStats CudaMoeLayer::check() {
  comet::check(has_run_, ErrorCode::invalid_argument, "[check] needs a forward before it");
  CallStats stats = engine_->finish();
  stats.choices = last_choices_;
  return stats;
}

double CudaMoeLayer::replay_compute() {
  comet::check(has_run_, ErrorCode::invalid_argument,
               "[replay_compute] needs a forward that succeeded before it");
  world_.barrier();
  const double mine = engine_->replay_compute();
  std::vector<double> all(world_.size());
  world_.all_gather(&mine, all.data(), sizeof(double));
  return *std::max_element(all.begin(), all.end());
}

}  // namespace

std::unique_ptr<MoeLayer> make_cuda_layer(const LayerParts& parts) {
  return std::make_unique<CudaMoeLayer>(parts);
}

}  // namespace comet
