// SPDX-License-Identifier: Apache-2.0
// WorldChoice: what --world says about where ranks live.
#pragma once

#include <cstdint>
#include <string_view>

namespace comet::cli {

enum class WorldKind : std::uint8_t {
  automatic,  ///< Not given: the processes that were started together, else threads.
  local,      ///< Threads of this process.
  mpi,        ///< The processes that mpirun has started.
  process,    ///< The processes that `comet launch` has started.
  nvshmem,    ///< Either, on GPUs.
};

/// "local", "mpi", "process" or "nvshmem".
std::string_view to_string(WorldKind kind) noexcept;

struct WorldChoice {
  WorldKind kind = WorldKind::automatic;
  std::int64_t ranks = 0;  ///< Of "local:<ranks>"; 0: it does not say.
};

/// Parses "local", "local:<ranks>", "mpi", "process" or "nvshmem". Throws Error(invalid_argument).
WorldChoice parse_world(std::string_view text);

}  // namespace comet::cli
