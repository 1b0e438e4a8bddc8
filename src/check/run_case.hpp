// SPDX-License-Identifier: Apache-2.0
// Checks the engine on one case: schedules against each other bit for bit, and against the oracle.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "check/execute.hpp"
#include "check/random_case.hpp"

namespace comet {

struct CaseOptions {
  /// Schedules to run; empty: all that the case's backend has. sequential always runs: the others
  /// are compared with it.
  std::vector<Schedule> schedules = {};
  int comet_runs = 3;  ///< Runs by comet, the first with the case's own options.
  int oracle_threads = 1;
  bool check_stats = true;  ///< Compare rows and bytes with what routing and placement imply.
  WorldRunner world = run_local_world;
  std::chrono::milliseconds timeout{20000};  ///< Of every wait, so that a deadlock is a failure.
  /// Ranks meet before each call. For tools that hold up a host's calls while any kernel runs.
  bool lockstep = false;
};

/// The schedules that layers on `backend` have.
std::vector<Schedule> schedules_of(Backend backend);
/// Those that `options` asks for, of a case on `backend`.
std::vector<Schedule> chosen_schedules(const CaseOptions& options, Backend backend);

/// `failure` names run, rank, token, column, got, expected and bound; empty if all is well.
struct CaseResult {
  std::string failure;
  std::int64_t forwards = 0;  ///< Calls of the layer.
  double worst_ratio = 0;     ///< Largest error over its bound, 1 being the limit.
  std::uint64_t digest = 0;   ///< Of all ranks' outputs, which all runs have alike; 0 if it failed.

  bool passed() const noexcept { return failure.empty(); }
};

/// sequential, comet several times, pipelined with 1, 2 and 4 chunks, sequential again, reference;
/// all on the same tokens. On cuda also pipelined with 8 chunks, and each schedule as a graph.
/// Never throws for what the engine does.
CaseResult run_case(const Case& c, const CaseOptions& options);

/// `calls` calls of one layer with other tokens, routing, schedule and options each time; then the
/// same calls by sequential alone on a fresh layer, which must give the same bits: no call may
/// depend on those before it.
CaseResult run_many_calls(const Case& c, std::int64_t calls, const CaseOptions& options);

/// Runs `body`, which returns a failure or nothing; what it throws becomes a failure.
CaseResult guard_case(const std::function<std::string(CaseResult&)>& body);

}  // namespace comet
