// SPDX-License-Identifier: Apache-2.0
// Worlds whose ranks are processes that mpirun starts.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "comet/world.hpp"

namespace comet {

/// Collective over all processes of the MPI job, of which each gets its rank's handle, the same as
/// MPI's; kind() is "mpi". Layers run on the CPU and links are native: memory inside a
/// host, TCP connections between hosts, by the interface that COMET_INTERFACE names, if any. With
/// Backend::cuda they run on GPUs, see process_world.hpp. Starts
/// MPI (MPI_THREAD_SERIALIZED) if nobody has, and then ends it with the process, unless a world is
/// left that failed. Only the handle's thread calls MPI.
///
/// `timeout` is the longest wait for another rank; 0 takes COMET_TIMEOUT_MS of the environment,
/// else 30 s. If a process dies or its host is cut off, all others' calls throw Error(peer) that
/// names it. Destroying the handle is collective on a good world.
///
/// Throws Error(unsupported) if this build has no MPI or it cannot be loaded, with how to get it,
/// or if ranks of different hosts cannot reach each other, with who cannot reach whom.
std::unique_ptr<World> make_mpi_world(
    std::chrono::milliseconds timeout = std::chrono::milliseconds(0),
    Backend backend = Backend::cpu);

/// Why make_mpi_world would throw Error(unsupported) here whatever the ranks: what is missing and
/// how to get it, without a full stop. Empty if MPI can be had. Loads it, but does not start it.
std::string why_no_mpi();

/// This process's place among those that were started together.
struct MpiPlace {
  int rank = 0;  ///< From 0.
  int size = 1;  ///< Processes.
};

/// What mpirun has left in the environment (OMPI_COMM_WORLD_RANK and _SIZE, or PMI_RANK and _SIZE
/// with more than one process, since batch systems set those for single ones too). Nothing if this
/// process was started otherwise. Starts nothing, and asks nobody.
std::optional<MpiPlace> find_mpi_place() noexcept;

}  // namespace comet
