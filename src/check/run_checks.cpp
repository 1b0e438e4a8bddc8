// SPDX-License-Identifier: Apache-2.0
#include "check/run_checks.hpp"

#include <algorithm>
#include <bit>
#include <iterator>

#include "base/check.hpp"
#include "check/random_case.hpp"
#include "check/run_fault.hpp"
#include "comm/world_view.hpp"

namespace comet {
namespace {

void add(CheckSummary& summary, const Case& c, const CaseResult& result, const std::string& what) {
  summary.forwards += result.forwards;
  summary.worst_ratio = std::max(summary.worst_ratio, result.worst_ratio);
  summary.digest = std::rotl(summary.digest, 1) ^ result.digest;
  if (!result.passed()) {
    summary.failures.push_back({c.index, describe(c), what + result.failure});
  }
}

void check_backend(const CheckOptions& options, const CaseOptions& run) {
  const std::vector<Schedule> possible = schedules_of(options.backend);
  for (const Schedule schedule : options.run.schedules) {
    check(std::find(possible.begin(), possible.end(), schedule) != possible.end(),
          ErrorCode::unsupported, "[check] schedule {}: {} does not have it in this version",
          to_string(schedule), to_string(options.backend));
  }
  if (options.backend == Backend::cpu) return;
  const int ranks = options.processes == nullptr ? 1 : options.processes->size();
  run.world(ranks, {.backend = options.backend, .timeout = run.timeout}, [](World&) {});
}

CaseOptions run_options(const CheckOptions& options) {
  CaseOptions run = options.run;
  if (options.processes != nullptr) run.world = run_on(*options.processes);
  return run;
}

// Passes a failure of the world on, see run_checks.
void check_world(const CheckOptions& options, const Case& c) {
  if (options.processes == nullptr) return;
  const WorldView& view = options.processes->view();
  if (!view.failures->failed()) return;
  try {
    view.failures->rethrow(view.rank);
  } catch (const Error& error) {
    throw Error(error.code(),
                fmt::format("[check] seed {} index {}: {}", c.seed, c.index, error.what()));
  }
}

}  // namespace

Case case_of(const CheckOptions& options, std::uint64_t index) {
  if (options.processes == nullptr) {
    return random_case(options.seed, index, options.backend, options.ranks);
  }
  Case c = random_case(options.seed, index, options.backend, options.processes->size());
  c.link = {};
  return c;
}

CheckSummary run_checks(const CheckOptions& options, const CheckProgress& progress) {
  check(options.cases >= 0 && options.calls >= 0 && options.fault_every >= 0 &&
            options.max_failures >= 1,
        ErrorCode::invalid_argument,
        "[check] cases, calls, fault_every, max_failures: {}, {}, {}, {}, at least 0, 0, 0, 1",
        options.cases, options.calls, options.fault_every, options.max_failures);
  const CaseOptions run = run_options(options);
  check_backend(options, run);
  const std::span<const Fault> faults = faults_of(options.backend);
  CheckSummary summary;
  for (std::int64_t i = 0; i < options.cases && !summary.stopped; ++i) {
    const Case c = case_of(options, options.first_index + static_cast<std::uint64_t>(i));
    add(summary, c, options.calls > 0 ? run_many_calls(c, options.calls, run) : run_case(c, run),
        "");
    check_world(options, c);
    ++summary.cases;
    // By the index, so that one case alone meets the same fault again.
    const auto every = static_cast<std::uint64_t>(options.fault_every);
    if (every > 0 && c.index % every == 0 && c.desc.max_tokens >= 1) {
      const Fault fault = faults[c.index / every % faults.size()];
      add(summary, c, run_fault(c, fault, run), "fault: ");
      check_world(options, c);
      ++summary.faults;
    }
    summary.stopped = std::ssize(summary.failures) >= options.max_failures;
    if (progress && !progress(summary)) summary.stopped = true;
  }
  return summary;
}

}  // namespace comet
