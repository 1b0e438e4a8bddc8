// SPDX-License-Identifier: Apache-2.0
// MoeLayer: one Mixture-of-Experts layer on one rank of a world.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "comet/desc.hpp"
#include "comet/routing.hpp"
#include "comet/tensor_view.hpp"
#include "comet/trace.hpp"
#include "comet/weights.hpp"
#include "comet/world.hpp"

namespace comet {

/// How the stages of a layer are ordered. All compute the same function; sequential, pipelined and
/// comet agree bit for bit on one backend.
enum class Schedule : std::uint8_t {
  reference,   ///< Serial, double accumulation, no tiles: the truth.
  sequential,  ///< Dispatch, GEMM, GEMM, combine, one after the other.
  pipelined,   ///< The same stages on chunks of tokens, on two queues.
  comet,       ///< Overlap tile by tile.
};

/// Lower-case name, for example "comet".
std::string_view to_string(Schedule schedule) noexcept;
/// Parses what to_string gives; throws Error(invalid_argument) on anything else.
Schedule parse_schedule(std::string_view name);

/// Fixed when a layer is created, equal on all ranks.
struct LayerOptions {
  /// Rows of a GEMM tile; 0 chooses by the expected rows per expert. cpu: 16 to 256, multiple of 8;
  /// cuda: 64 or 128.
  std::int64_t block_m = 0;
  /// Columns of a GEMM tile; 0 chooses. cpu: 16 to 1024, multiple of 8; cuda: 256.
  std::int64_t block_n = 0;
  /// cpu: threads of this rank, the caller's included; >= 1. May differ between ranks. cuda ignores
  /// it: a rank has a thread block on each of its multiprocessors.
  int num_workers = 2;
  /// Most rows (token copies for local experts, whole tiles counted) that a rank may get in a call;
  /// 0 is no limit. A call that needs more fails on all ranks with Error(capacity) that says the
  /// needed size, which grows with the number of groups, since each has tails of its own.
  std::int64_t max_rows = 0;
  /// cuda: most groups of a call, 1 to 1024; memory is reserved for them. cpu has no such limit.
  std::int64_t max_groups = 8;
  /// Layers that share a workspace pass the first one's workspace(); null makes a new one.
  std::shared_ptr<class Workspace> workspace = {};
};

/// Where in a call a probe is called.
struct ProbePoint {
  TraceKind phase = TraceKind::publish;  ///< What the worker is about to do; never a link_* kind.
  int rank = 0;                          ///< Who.
  int worker = 0;                        ///< Worker 0 is the caller's thread.
};

/// Where communication of `comet` runs on a GPU.
enum class Placement : std::uint8_t {
  warps,   ///< On extra warps of thread blocks that compute meanwhile.
  blocks,  ///< On thread blocks of its own, as in the paper.
};

/// The name of a placement, as flags and rows spell it; static storage.
std::string_view to_string(Placement placement) noexcept;
/// Parses what to_string gives; throws Error(invalid_argument) on anything else.
Placement parse_placement(std::string_view name);

/// Chosen per call. All but n_c_*, `placement`, `waves` and `probe` must be equal on all ranks
/// (checked).
/// With `groups` 0, as it is unless it is set, everything else of schedule comet that is left to
/// choose comes from the profile that COMET_PROFILE names or, where that has nothing near, from a
/// model of the machine (docs/tuning.md).
struct ForwardOptions {
  Schedule schedule = Schedule::comet;  ///< Order of the stages.
  /// Groups G of tokens for comet, chunks d for pipelined; 1 to 1024, 0 chooses (1 for pipelined,
  /// and on cpu where LayerOptions::max_rows limits the rows). sequential ignores it.
  std::int64_t groups = 0;
  /// Columns of a panel, rounded up to whole tiles of the second GEMM, at most H; 0 chooses. The
  /// last panel is cut in two if it is wider than a tile.
  std::int64_t panel = 0;
  /// Most tokens of one transfer, at most the 64 of a block; 0 chooses.
  std::int64_t chunk = 0;
  /// Workers that start as communication workers while tokens are still being pulled, and after
  /// that; -1 chooses, 0 has every worker do both.
  int n_c_dispatch = -1;
  int n_c_combine = -1;  ///< See n_c_dispatch.
  /// cuda, comet only: where the n_c_* multiprocessors' communication runs. Chosen too, whatever
  /// this says, if groups and both n_c_* are.
  Placement placement = Placement::warps;
  /// cuda, comet only: waves that each expert's tiles are cut into, 1 to 64. Tiles go wave by wave,
  /// within one expert by expert: with more waves tokens are complete earlier, and products read
  /// weights more often. 0 chooses: 1, or 2 where a token has many rows on a rank and the link is
  /// slow.
  std::int64_t waves = 0;
  /// About how many tokens all ranks together have in this call, for what chooses; must be equal on
  /// all ranks. 0: as many as max_tokens allows.
  std::int64_t expected_tokens = 0;
  /// cuda: the cudaStream_t that the call is queued on; null is World::stream(), so CUDA's default
  /// stream is cudaStreamLegacy. Where ranks share a GPU it must be of the rank's own
  /// multiprocessors; for calls between work on others see World::fork_from.
  void* stream = nullptr;
  /// Events of this rank's call are appended here; null (the default) costs nothing measurable.
  Trace* trace = nullptr;
  /// Called before each piece of work, for tests that inject delays and faults; null is free. What
  /// it throws fails the world, as any exception in a worker does.
  std::function<void(const ProbePoint&)> probe = {};
};

/// What a call ran with: what ForwardOptions gave, and what was chosen where they left it open.
struct CallChoices {
  Schedule schedule = Schedule::comet;  ///< As asked for.
  std::int64_t groups = 1;              ///< Of comet; chunks of pipelined.
  std::int64_t panel = 0;               ///< Columns, whole tiles.
  std::int64_t chunk = 0;               ///< Most tokens of one transfer.
  /// Workers, or multiprocessors that communicate; cuda, comet: -1 if the device decides.
  int n_c_dispatch = 0;
  int n_c_combine = 0;                     ///< See n_c_dispatch.
  Placement placement = Placement::warps;  ///< cuda, comet only.
  std::int64_t waves = 0;                  ///< cuda, comet only; 0: left to the layer.
};

/// What one call did on this rank. Times in microseconds; on cuda by the device's clock.
struct CallStats {
  double t_layer_us = 0;  ///< The whole call.
  /// Copying ids and weights to the symmetric buffer, and x unless that is copied beside the plan.
  double t_publish_us = 0;
  /// Waiting for all headers, reading ids, planning, and what copying x beside that takes longer.
  double t_plan_us = 0;
  /// cuda, sequential only: from the plan to the last row that dispatch has delivered, and from the
  /// end of the products to the last sum.
  double t_dispatch_us = 0;
  double t_combine_us = 0;  ///< See t_dispatch_us.
  std::int64_t rows = 0;    ///< Token copies computed by this rank.
  std::int64_t tiles = 0;   ///< Row tiles of this rank.
  /// Payload over links to and from this rank, per stage; what a rank sends to itself counts not.
  std::int64_t dispatch_bytes_in = 0;
  std::int64_t dispatch_bytes_out = 0;  ///< See dispatch_bytes_in.
  std::int64_t combine_bytes_in = 0;    ///< See dispatch_bytes_in.
  std::int64_t combine_bytes_out = 0;   ///< See dispatch_bytes_in.
  std::int64_t metadata_bytes_in = 0;   ///< Headers, ids and weights read from other ranks.
  /// What the plan has this rank send to ranks of other hosts, metadata included, and what it gave
  /// its connections: equal after a tiled call.
  std::int64_t host_bytes_planned = 0;
  std::int64_t host_bytes_sent = 0;  ///< See host_bytes_planned.
  CallChoices choices = {};          ///< On cuda of the last forward, also where graphs replay.
};

/// One layer on one rank. create, forward, replay_compute and destruction are collective. Not
/// thread-safe: one thread per rank calls it.
///
/// On cuda a call is queued and not waited for: x, ids, weights and y are device memory and belong
/// to the call until its stream has passed it, all sizes but T are fixed when it is queued, and
/// check() tells how it went. A call may be captured in a CUDA graph, whose replays take the ids,
/// weights, tokens and RoutingView::device_tokens that they then find; replays on one workspace
/// must not overlap.
class MoeLayer {
 public:
  /// Checks desc, parallel and options (throws on all ranks alike) and allocates. `world` and the
  /// memory behind `weights` must outlive the layer.
  static std::unique_ptr<MoeLayer> create(const MoeDesc& desc, const ParallelDesc& parallel,
                                          const MoeWeights& weights, World& world,
                                          const LayerOptions& options = {});
  virtual ~MoeLayer() = default;
  MoeLayer(const MoeLayer&) = delete;
  MoeLayer& operator=(const MoeLayer&) = delete;

  /// y[t] = sum over k of weight * expert(x[t]) for this rank's tokens. `x` and `y` are
  /// [routing.tokens, H] of desc.dtype and must not overlap; `x` and `routing` are free for reuse
  /// when it returns. On an input fault of any rank (T too large, bad ids, null pointers, capacity,
  /// options outside their limits), or if ranks ask for different layers or options
  /// (Error(mismatch)), every rank's y is filled with NaN and every rank throws the same sentence
  /// and code; the world stays good. An expired wait throws Error(timeout) on every rank and fails
  /// the world, as does any other exception inside a call; then every call throws until
  /// World::recover.
  ///
  /// On cuda it returns empty statistics at once and throws, after it has queued the call, what
  /// check() would throw of an earlier call that is done and was not asked for; of a failed world
  /// it throws without queueing.
  virtual CallStats forward(const ConstMatrixView& x, const RoutingView& routing,
                            const MatrixView& y, const ForwardOptions& options = {}) = 0;

  /// Waits until the last forward on this rank is done, of a graph's replay too if it runs on the
  /// layer's last stream; throws its error if it had one, else returns what it did. Not collective.
  virtual CallStats check() = 0;

  /// Runs the two GEMMs of the last forward again, by all workers of all ranks at once, without
  /// communication, plan or permutation: the t_compute of that call in microseconds (max over
  /// ranks). Throws Error(invalid_argument) before the first forward.
  virtual double replay_compute() = 0;

  /// What options that are left to choose get in calls with about `tokens` tokens of all ranks
  /// together (0: as many as max_tokens allows), and why, in one sentence.
  virtual std::string explain_choice(std::int64_t tokens = 0) = 0;

  /// Bytes of the symmetric workspace and of the rank-local buffers reserved for the worst case.
  virtual std::int64_t workspace_bytes() const noexcept = 0;
  virtual std::int64_t local_bytes() const noexcept = 0;  ///< See workspace_bytes.
  /// For LayerOptions::workspace of the next layer.
  virtual std::shared_ptr<Workspace> workspace() const noexcept = 0;

 protected:
  MoeLayer() = default;
};

}  // namespace comet
