// SPDX-License-Identifier: Apache-2.0
// Runs a list of forward calls of one layer on a world and keeps everything that came out.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "check/case_data.hpp"
#include "check/random_case.hpp"
#include "check/rank_data.hpp"
#include "comet/error.hpp"
#include "comet/layer.hpp"
#include "layer/world_runner.hpp"

namespace comet {

/// One forward call of all ranks.
struct Run {
  std::string label;                    ///< What a failure calls it, with its options.
  std::vector<ForwardOptions> options;  ///< [W]
  std::int64_t call = 0;                ///< Which call's tokens, an index into `calls`.
  /// cuda: the call is captured once, with room for more tokens than it has, and launched so often,
  /// each time reading T on the device; 0 is a plain call. The first call of a layer is plain.
  int graph = 0;
  /// cuda: [W] what RoutingView::device_tokens says; empty: it is not given, or by a graph the
  /// truth.
  std::vector<std::int64_t> device_tokens = {};
  /// Changes one rank's arguments just before the call, to provoke a fault; may be null.
  std::function<void(int rank, ConstMatrixView& x, RoutingView& routing, MatrixView& y)> spoil = {};
};

struct RunError {
  ErrorCode code = ErrorCode::internal;
  std::string sentence;
};

/// What one rank got from one run.
struct RunOutput {
  Bytes y;  ///< [tokens, row_stride] of the call, filled with kCanary before it.
  CallStats stats;
  std::optional<RunError> error;
  /// How a graph's later launches differ from its first, or that it wrote rows past T; else empty.
  std::string difference;
};

constexpr std::byte kCanary{0x5a};

using Outputs = std::vector<std::vector<RunOutput>>;  ///< [run][rank]

struct ExecuteParams {
  const Case& c;
  const CaseWeights& weights;
  const Calls& calls;
  const std::vector<Run>& runs;
  WorldRunner world = run_local_world;
  std::chrono::milliseconds timeout{20000};
  bool lockstep = false;  ///< See CaseOptions.
};

/// [run][rank], of all ranks, also where each is a process. Errors of a single forward call are
/// kept in its output and the next run goes on; all others, and every timeout, are thrown.
Outputs execute(const ExecuteParams& params);

/// The options of a run by `schedule`, the same on all ranks but for n_c, placement and waves, with
/// delays as the case wants them. `stream` tells the runs of a case apart.
Run make_run(const Case& c, Schedule schedule, std::uint64_t stream);

/// The same with `groups`, `panel` and `chunk` given; n_c, placement and waves are drawn.
Run make_run(const Case& c, Schedule schedule, std::uint64_t stream, const ForwardOptions& shared);

/// Makes it a graph of `launches` launches; says so in its label.
Run as_graph(Run run, int launches);

}  // namespace comet
