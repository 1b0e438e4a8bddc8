// SPDX-License-Identifier: Apache-2.0
// Introduction: the first that the processes of a group say to each other, before anything is made.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comet/world.hpp"
#include "comm/process/process_group.hpp"

namespace comet {

/// Collective: says that this process will be a rank, on `backend`. Returns the process number of
/// each, [size]. Throws Error(mismatch), on all, if they want different worlds; Error(peer) with
/// the sentence of the lowest rank that has called refuse_world in its place.
std::vector<std::int32_t> introduce(ProcessGroup& group, Backend backend);

/// Collective, in place of introduce: says why this process will not be a rank. Returns the lowest
/// rank that refuses, whose sentence all get, at most 399 bytes of it.
int refuse_world(ProcessGroup& group, const std::string& sentence);

}  // namespace comet
