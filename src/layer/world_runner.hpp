// SPDX-License-Identifier: Apache-2.0
// WorldRunner: where tools and tests run what all ranks do, whether ranks are threads of this
// process or processes of which this is one.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "comet/world.hpp"

namespace comet {

/// Runs a body on all ranks of a new world, as run_local_world does, or on this process's rank of
/// one that is there, as run_on.
using WorldRunner = std::function<void(int size, const LocalWorldOptions& options,
                                       const std::function<void(World&)>& body)>;

/// Runs bodies on `world`, a world of processes, which must outlive it: each process runs its own
/// rank's part, and all make the same calls. What a body throws fails the world, so that no rank
/// waits for this one, and is passed on, or what the world has failed of just before. The world
/// keeps the link that it is given for a body. Throws Error(unsupported) on all ranks, and the
/// world stays good, for what such a world does not have: another backend, or a link, see
/// World::set_link; Error(invalid_argument) if `size` is not the world's. The world's own timeout
/// holds.
WorldRunner run_on(World& world);

/// Whether all ranks are threads of this process, so that what one writes the others can read. Else
/// each is a process.
bool is_one_process(const World& world) noexcept;

/// Collective: every rank's bytes, in rank order, of whatever length.
std::vector<std::vector<std::byte>> gather_bytes(World& world, std::span<const std::byte> own);

}  // namespace comet
