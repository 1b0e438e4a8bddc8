// SPDX-License-Identifier: Apache-2.0
// Stops ranks in the middle of their calls, at places drawn from (seed, index) or given, and checks
// that all others name the right one in time and that the world recovers.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "check/random_case.hpp"
#include "check/run_case.hpp"

namespace comet {

/// How a rank fails.
enum class StopKind : std::uint8_t {
  blocks,      ///< A probe does not return until all other ranks have got their error.
  throws,      ///< A probe throws.
  stays_away,  ///< The rank does not enter its next call until all others have got their error.
};
std::string_view to_string(StopKind kind) noexcept;

/// Where a rank fails. If `worker` does not get to `phase` in the first call, any worker that gets
/// there in the next one fails; if none does, the rank fails in the call after that wherever it is.
struct StopPoint {
  StopKind kind = StopKind::blocks;
  TraceKind phase = TraceKind::publish;  ///< Before which piece of work; not for stays_away.
  int rank = 0;
  int worker = -1;  ///< -1 is any.
};

struct StopCase {
  Case c;
  Schedule schedule = Schedule::comet;
  std::vector<StopPoint> points;  ///< One after the other in one world, with a recovery after each.
};

/// One stop of a random case of 2 to 6 ranks.
StopCase random_stop(std::uint64_t seed, std::uint64_t index);

/// One line, beginning with the stops.
std::string describe(const StopCase& stop);

struct StopOptions {
  std::chrono::milliseconds timeout{200};  ///< Of the world.
  WorldRunner world = run_local_world;
};

/// Two good calls; then for each point: calls until every rank has thrown, the others within the
/// timeout plus one second of the stop, all of them the same sentence, which names the stopped
/// rank; a further call, which must throw it at once; recover on all ranks; and the two good calls
/// again, which must give the same bits as before. Never hangs: a stop ends after a while even if
/// the other ranks have not noticed, which is a failure.
CaseResult run_stop(const StopCase& stop, const StopOptions& options);

/// The rank that an expiry sentence names as its cause ("cause: rank 3, ..."), or -1.
int cause_in(std::string_view sentence);

}  // namespace comet
