// SPDX-License-Identifier: Apache-2.0
// A benchmark's recorded calls: each rank has its own part, which others see where all are joined.
#pragma once

#include <cstdint>
#include <vector>

#include "comet/world.hpp"
#include "measure/bench_case.hpp"

namespace comet {

/// Has a call last from its first event to its last: on a GPU, without the host's part.
void limit_to_events(RecordedCall& call);

/// Gives every rank all `parts`, of which it has its own, by rank 0's clock: `clocks` says for each
/// rank by how many ns it is ahead of that. Collective, of ranks that are processes.
void share_recorded(World& world, std::vector<RecordedCall>& parts,
                    const std::vector<std::int64_t>& clocks);

/// One call of all ranks' parts, of one clock; at least one.
RecordedCall join_parts(const std::vector<RecordedCall>& parts);

}  // namespace comet
