// SPDX-License-Identifier: Apache-2.0
// Worlds whose ranks are processes that somebody else has started and can join.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "comet/world.hpp"

namespace comet {

/// One process of a group, as whoever started it knows it.
struct ProcessStart {
  std::string kind;  ///< World::kind of the world, for example "torch.distributed".
  int rank = 0;      ///< Of this process, 0 to size - 1.
  int size = 1;      ///< Processes in the group.
  /// Collective: every rank's `bytes` bytes, in rank order, to `out` [size * bytes]. Called by the
  /// caller's thread while a world is made, and never after. May throw.
  std::function<void(const void* in, void* out, std::size_t bytes)> all_gather = {};
};

/// Collective over all processes of the group, each of which gets its rank's handle. Layers run on
/// the CPU and links are native: memory inside a host, where all must be processes of one user, and
/// TCP connections between hosts, see mpi_world.hpp.
///
/// `timeout` is the longest wait for another rank; 0 takes COMET_TIMEOUT_MS of the environment,
/// else 30 s. If a process dies, all others' calls throw Error(peer) that names it. Destroying the
/// handle waits for nobody; no rank may call anything that needs this one after it.
///
/// With Backend::cuda, which all ranks must want, each process has a GPU, or a part of one: the
/// ranks of a host spread over the GPUs that their processes see, and those that share one (under
/// MPS, see comet launch --gpus) have their own multiprocessors each. kind() is then "nvshmem":
/// symmetric memory is NVSHMEM's, reached by pointers where these exist, by its device puts beyond.
/// Allocating and destroying the handle are then collective. A process belongs to one set of
/// processes until it ends: its later worlds on GPUs must have the same ranks in the same order, so
/// a sub-group is a world of its own, of whose members none is in another.
///
/// Throws Error(invalid_argument) for a rank outside the group or no all_gather, and
/// Error(unsupported) on all ranks if one cannot reach another's memory, or has no GPU or NVSHMEM.
std::unique_ptr<World> make_process_world(
    const ProcessStart& start, std::chrono::milliseconds timeout = std::chrono::milliseconds(0),
    Backend backend = Backend::cpu);

}  // namespace comet
