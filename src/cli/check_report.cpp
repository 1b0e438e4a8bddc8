// SPDX-License-Identifier: Apache-2.0
#include "cli/check_report.hpp"

#include <algorithm>

#include "base/check.hpp"
#include "check/random_case.hpp"

namespace comet::cli {
namespace {

// Of the cases that ran; drawing a case again is cheap.
std::string ranks_text(const CheckOptions& options, std::int64_t cases) {
  std::int64_t fewest = 0;
  std::int64_t most = 0;
  for (std::int64_t i = 0; i < cases; ++i) {
    const std::int64_t ranks =
        random_case(options.seed, options.first_index + static_cast<std::uint64_t>(i),
                    options.backend)
            .world_size();
    fewest = i == 0 ? ranks : std::min(fewest, ranks);
    most = std::max(most, ranks);
  }
  return fewest == most ? fmt::format("ranks {}", most) : fmt::format("ranks {}-{}", fewest, most);
}

std::string replay_command(const CheckOptions& options, const std::string& schedules,
                           std::uint64_t index) {
  std::string command = fmt::format("comet check --seed {} --index {}", options.seed, index);
  if (options.backend != Backend::cpu) {
    command += fmt::format(" --backend {}", to_string(options.backend));
  }
  if (!schedules.empty()) command += " --schedules " + schedules;
  if (options.calls > 0) command += fmt::format(" --calls {}", options.calls);
  return command;
}

}  // namespace

std::vector<Schedule> parse_schedules(const std::string& text) {
  std::vector<Schedule> schedules;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    schedules.push_back(parse_schedule(std::string_view(text).substr(begin, end - begin)));
    begin = end + 1;
  }
  return schedules;
}

std::string check_text(const CheckOptions& options, const std::string& schedules,
                       const CheckSummary& summary) {
  std::string text;
  for (const CheckFailure& failure : summary.failures) {
    text += fmt::format("FAILED seed {} index {}: {}\n  case:  {}\n  again: {}\n", options.seed,
                        failure.index, failure.sentence, failure.case_line,
                        replay_command(options, schedules, failure.index));
  }
  const std::string what = summary.cases == 1
                               ? fmt::format("1 case (index {})", options.first_index)
                               : fmt::format("{} cases", summary.cases);
  const std::size_t failed = summary.failures.size();
  std::string verdict = "all passed";
  if (failed > 0) {
    verdict =
        fmt::format("{} FAILED{}", failed, summary.cases < options.cases ? ", stopped early" : "");
  }
  const std::string backend =
      options.backend == Backend::cpu ? "" : fmt::format(" on {}", to_string(options.backend));
  text += fmt::format(
      "check: {}, world local{}, {}, seed {}: {} ({} forward calls, {} with injected faults, "
      "largest "
      "error {:.3f} of its bound)\n",
      what, backend, ranks_text(options, summary.cases), options.seed, verdict, summary.forwards,
      summary.faults, summary.worst_ratio);
  return text;
}

}  // namespace comet::cli
