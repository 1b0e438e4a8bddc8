// SPDX-License-Identifier: Apache-2.0
// Many random cases in a row: what `comet check --random N --seed S` runs.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "check/run_case.hpp"

namespace comet {

struct CheckOptions {
  Backend backend = Backend::cpu;
  std::int64_t cases = 100;  ///< Indices first_index to first_index + cases - 1.
  std::uint64_t seed = 1;
  std::uint64_t first_index = 0;
  /// Of every case; 0: each draws its own number. See case_of.
  std::int64_t ranks = 0;
  /// 0: each case once by every schedule. Else that many calls of one layer per case.
  std::int64_t calls = 0;
  /// One case in this many also meets an input fault; 0 is none.
  std::int64_t fault_every = 10;
  std::int64_t max_failures = 5;  ///< Stops after so many.
  /// A world of processes of which this is one rank; all make the same call, run the same cases and
  /// come to the same verdict. Takes the place of `ranks` and of run.world. Null: ranks are as
  /// run.world makes them.
  World* processes = nullptr;
  CaseOptions run;
};

/// Case number `index` of `options`. Links between processes are native, whatever was drawn.
Case case_of(const CheckOptions& options, std::uint64_t index);

struct CheckFailure {
  std::uint64_t index = 0;
  std::string case_line;  ///< describe() of the case; run it again with its seed and index.
  std::string sentence;   ///< What differed, where.
};

struct CheckSummary {
  std::int64_t cases = 0;  ///< Run, failed ones included.
  std::int64_t faults = 0;
  std::int64_t forwards = 0;
  double worst_ratio = 0;  ///< Largest error over its bound.
  /// Of the outputs of all cases: the same wherever and however their ranks live.
  std::uint64_t digest = 0;
  std::vector<CheckFailure> failures;
  bool stopped = false;  ///< By the callback or by max_failures.
};

/// Called after every case; returns false to stop.
using CheckProgress = std::function<bool(const CheckSummary& so_far)>;

/// Throws Error(unsupported) if nothing can run on the backend at all, or not a schedule asked for.
/// If a world of processes fails, no further case can run on it, so that is thrown, with the case's
/// seed and index; on world local it is that case's failure.
CheckSummary run_checks(const CheckOptions& options, const CheckProgress& progress = {});

}  // namespace comet
