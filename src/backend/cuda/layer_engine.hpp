// SPDX-License-Identifier: Apache-2.0
// LayerEngine: what a layer sees of the CUDA backend. No CUDA header, so that callers compile
// everywhere; backend/no_cuda.cpp stands in where the backend is not built.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "comet/error.hpp"
#include "comet/layer.hpp"
#include "comm/world_view.hpp"
#include "layout/layer_dims.hpp"
#include "layout/run_config.hpp"
#include "layout/workspace_layout.hpp"

namespace comet::cuda {

/// What fixes an engine. Borrowed pointers outlive it.
struct LayerEngineParams {
  MoeDesc desc;
  LayerDims dims;
  MoeWeights weights;  ///< Device memory.
  WorldView* world = nullptr;
  const std::int32_t* ep_rank_of = nullptr;  ///< [E], host memory, copied.
  const std::int32_t* local_of = nullptr;    ///< [E], host memory, copied.
  std::byte* const* peers = nullptr;         ///< [world] workspaces as they are now.
  std::int64_t max_rows = 0;                 ///< See LayerOptions.
  std::int64_t max_groups = 1;
};

/// A fault that this rank's host has found in the arguments of a call.
struct HostFault {
  ErrorCode code;
  std::string sentence;
};

/// One call, in a form that all sizes are known of but T.
struct QueuedCall {
  ConstMatrixView x;
  RoutingView routing;
  MatrixView y;  ///< data null if y cannot be written.
  std::optional<HostFault> fault;
  RunConfig config;
  Schedule schedule = Schedule::sequential;
  int reserved = 0;  ///< Multiprocessors that pipelined reserves for copies.
  /// Of comet, as in ForwardOptions.
  int n_c_dispatch = -1;
  int n_c_combine = -1;
  Placement placement = Placement::warps;
  std::int64_t waves = 0;
  bool follows_counts = false;  ///< Both n_c were chosen for uniform routing, see OverlapChoice.
  std::uint64_t config_hash = 0;
  std::byte* const* peers = nullptr;  ///< [world] each rank's workspace.
  WorkspaceLayout layout = {};
  Trace* trace = nullptr;  ///< finish() appends the call's events; comet only.
  void* stream = nullptr;  ///< cudaStream_t
};

/// One layer's kernels and buffers on one rank. Its memory belongs to the world.
class LayerEngine {
 public:
  virtual ~LayerEngine() = default;

  /// Queues the call and waits for nothing.
  virtual void queue(const QueuedCall& call) = 0;

  /// Waits until the rank's last call is done. Throws its fault, or the failure of the world.
  virtual CallStats finish() = 0;

  /// Throws the fault of a call that is done and that finish() was not called for.
  virtual void rethrow_earlier() = 0;

  /// Runs the two GEMMs of the last call again, after a start line; returns how long this rank took
  /// in microseconds of the device's clock.
  virtual double replay_compute() = 0;

  virtual std::int64_t local_bytes() const noexcept = 0;
};

/// Throws Error(unsupported) without CUDA, Error(invalid_argument) for weights that TMA cannot
/// load.
std::unique_ptr<LayerEngine> make_layer_engine(const LayerEngineParams& params);

/// Tile of a layer on GPUs: fills block_m and block_n where they are 0, and panel_n. Throws
/// Error(invalid_argument) for a tile that no kernel has.
void choose_device_tile(LayerDims& dims);

}  // namespace comet::cuda
