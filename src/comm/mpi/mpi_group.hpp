// SPDX-License-Identifier: Apache-2.0
// What the plugin libcomet_mpi.so gives: the one piece that is linked with MPI.
#pragma once

#include <memory>

#include "comm/process/process_group.hpp"

namespace comet {

/// What the plugin gets and returns.
struct MpiStart {
  const char* host = "";          ///< For ProcessGroup::host.
  ProcessGroup* group = nullptr;  ///< The caller's, or null.
  char error[512] = {};           ///< Why there is none, one sentence.
};

/// The plugin's only symbol, "comet_mpi_start", has this type: starts MPI if nobody has and makes a
/// group of all its processes. Collective.
using MpiStartFunction = void(MpiStart* start);

/// Collective: loads the plugin and starts MPI, if nobody has. Throws Error(unsupported) if that
/// cannot be.
std::unique_ptr<ProcessGroup> start_mpi_group();

inline constexpr const char* kMpiPlugin = "libcomet_mpi.so";
inline constexpr const char* kMpiSymbol = "comet_mpi_start";

}  // namespace comet
