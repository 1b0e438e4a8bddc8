// SPDX-License-Identifier: Apache-2.0
// Layers whose ranks are processes against the same layers on world local.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <string>
#include <vector>

#include "check/execute.hpp"
#include "check/random_case.hpp"
#include "check/run_case.hpp"

namespace comet {

/// A case, its runs, and what all ranks got from them on world local.
struct ProcessCase {
  Case c;
  CaseWeights weights;
  Calls calls;
  std::vector<Run> runs;
  Outputs expected;

  /// All ranks' on `world`, in each of their processes.
  Outputs run(const WorldRunner& world) const { return execute({c, weights, calls, runs, world}); }

  /// How what any rank got differs, or nothing.
  std::string difference(const Outputs& outputs) const {
    for (std::size_t i = 0; i < runs.size(); ++i) {
      for (std::size_t rank = 0; rank < outputs[i].size(); ++rank) {
        const bool is_tiled = runs[i].options[rank].schedule != Schedule::reference;
        const std::string what = difference(outputs[i][rank], expected[i][rank], is_tiled);
        if (what.empty()) continue;
        return fmt::format("{}\n  {}: rank {}: {}", describe(c), runs[i].label, rank, what);
      }
    }
    return {};
  }

 private:
  static std::string difference(const RunOutput& got, const RunOutput& want, bool is_tiled) {
    if (got.error.has_value() != want.error.has_value()) {
      return got.error ? got.error->sentence : "no error";
    }
    if (got.y != want.y) return "other bits than on world local";
    if (is_tiled && got.stats.host_bytes_sent != got.stats.host_bytes_planned) {
      return fmt::format("sent {} bytes to other hosts, planned {}", got.stats.host_bytes_sent,
                         got.stats.host_bytes_planned);
    }
    return got.stats.dispatch_bytes_in == want.stats.dispatch_bytes_in &&
                   got.stats.combine_bytes_out == want.stats.combine_bytes_out
               ? std::string{}
               : "moved other bytes than on world local";
  }
};

/// Every schedule on the case's tokens, twice; links are native.
inline ProcessCase make_process_case(Case c) {
  c.link = {};
  ProcessCase made{c, make_weights(c), {make_call(c)}, {}, {}};
  std::uint64_t stream = 0;
  for (int round = 0; round < 2; ++round) {
    for (const Schedule schedule : schedules_of(Backend::cpu)) {
      made.runs.push_back(make_run(c, schedule, stream++));
    }
  }
  made.expected = made.run(run_local_world);
  return made;
}

/// The first `count` random cases of a seed that have `ranks` ranks.
inline std::vector<ProcessCase> make_process_cases(int ranks, int count, std::uint64_t seed) {
  std::vector<ProcessCase> cases;
  for (std::uint64_t index = 0; static_cast<int>(cases.size()) < count; ++index) {
    Case c = random_case(seed, index);
    if (c.world_size() == ranks) cases.push_back(make_process_case(c));
  }
  return cases;
}

}  // namespace comet
