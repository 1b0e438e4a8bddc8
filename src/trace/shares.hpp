// SPDX-License-Identifier: Apache-2.0
// What the workers' time of a timeline went into.
#pragma once

#include "trace/timeline.hpp"

namespace comet {

/// Parts of ranks x workers x time, 0 to 1; the four sum to 1.
struct WorkerShares {
  double compute = 0;
  double copy = 0;
  double plan = 0;  ///< Publishing, metadata and planning; one worker of a rank does it.
  double wait = 0;  ///< The rest: waits that were recorded, and time in no event.
  /// Part of the time that the busiest direction of a rank's link is occupied; 0 without transfers.
  double busiest_link = 0;
};
WorkerShares worker_shares(const Timeline& timeline);

}  // namespace comet
