// SPDX-License-Identifier: Apache-2.0
// EngineCall: everything that one call of the CPU engine depends on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "comet/layer.hpp"
#include "comet/tensor_view.hpp"
#include "comet/trace.hpp"
#include "layout/run_config.hpp"
#include "layout/workspace_layout.hpp"
#include "plan/plan.hpp"

namespace comet {

/// When work that depends on other work may start.
enum class Gate : std::uint8_t {
  tile,   ///< comet: as soon as the rows, tiles or panels that it reads are there.
  group,  ///< sequential (one group), pipelined: when the stage before has finished the whole
          ///< group, and pushes only after all pulls, as on a queue in issue order.
};

/// Borrowed; fixed while the engine runs it.
struct EngineCall {
  const Plan* plan = nullptr;
  RunConfig config = {};
  Gate gate = Gate::tile;
  std::uint32_t epoch = 0;
  std::byte* const* peers = nullptr;  ///< [world] each rank's workspace.
  WorkspaceLayout layout = {};
  MatrixView y = {};  ///< [tokens of this rank, H]
  /// Workers in communication role while pulls are left, and after that; with 0 all do both.
  int n_c_dispatch = 0;
  int n_c_combine = 0;
  /// Communication workers only communicate and the others only compute, as on two queues with
  /// workers reserved for copies.
  bool reserved_roles = false;
  const std::function<void(const ProbePoint&)>* probe = nullptr;  ///< Null is off.
  Trace* trace = nullptr;  ///< Where to append the events of this call; null is off.

  std::int64_t parity() const noexcept { return epoch & 1U; }
};

}  // namespace comet
