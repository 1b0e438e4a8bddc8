// SPDX-License-Identifier: Apache-2.0
#include "cli/check_report.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/check.hpp"
#include "base/count_text.hpp"
#include "check/random_case.hpp"

namespace comet::cli {
namespace {

struct RankCounts {
  std::int64_t fewest = 0;
  std::int64_t most = 0;
};

// Of the cases that ran; drawing a case again is cheap.
RankCounts count_ranks(const CheckOptions& options, std::int64_t cases) {
  RankCounts counts;
  for (std::int64_t i = 0; i < cases; ++i) {
    const std::int64_t ranks =
        case_of(options, options.first_index + static_cast<std::uint64_t>(i)).world_size();
    counts.fewest = i == 0 ? ranks : std::min(counts.fewest, ranks);
    counts.most = std::max(counts.most, ranks);
  }
  return counts;
}

std::string_view world_kind(const CheckOptions& options) {
  return options.processes == nullptr ? "local" : options.processes->kind();
}

std::string ranks_text(const CheckOptions& options, std::int64_t cases) {
  const RankCounts counts = count_ranks(options, cases);
  if (options.processes != nullptr || options.ranks > 0) {
    return count_text(counts.most, "rank");
  }
  return counts.fewest == counts.most ? fmt::format("ranks {}", counts.most)
                                      : fmt::format("ranks {}-{}", counts.fewest, counts.most);
}

// What starts the same ranks again.
std::string starter(const CheckOptions& options) {
  if (options.processes == nullptr) return "comet";
  const int ranks = options.processes->size();
  const std::string_view kind = options.processes->kind();
  if (kind == "mpi") return fmt::format("mpirun -n {} comet", ranks);
  if (kind == "process") return fmt::format("comet launch --ranks {} --", ranks);
  return fmt::format("{}comet launch --ranks {} --gpus 1 --",
                     kind == "nvshmem" ? "" : "COMET_FORCE_PUTS=1 ", ranks);
}

std::string replay_command(const CheckOptions& options, const std::string& schedules,
                           std::uint64_t index) {
  std::string command =
      fmt::format("{} check --seed {} --index {}", starter(options), options.seed, index);
  if (options.processes == nullptr && options.ranks > 0) {
    command += fmt::format(" --world local:{}", options.ranks);
  }
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
      "check: {}, world {}{}, {}, seed {}: {} ({} forward calls, {} with injected faults, largest "
      "error {:.3f} of its bound)\n",
      what, world_kind(options), backend, ranks_text(options, summary.cases), options.seed, verdict,
      summary.forwards, summary.faults, summary.worst_ratio);
  return text;
}

std::string check_json(const CheckOptions& options, const std::string& schedules,
                       const CheckSummary& summary) {
  const RankCounts ranks = count_ranks(options, summary.cases);
  nlohmann::ordered_json json = {{"cases", summary.cases},
                                 {"world", world_kind(options)},
                                 {"ranks", ranks.most},
                                 {"fewest_ranks", ranks.fewest},
                                 {"backend", to_string(options.backend)},
                                 {"seed", options.seed},
                                 {"first_index", options.first_index},
                                 {"calls", summary.forwards},
                                 {"faults", summary.faults},
                                 {"largest_error", summary.worst_ratio},
                                 {"outputs", fmt::format("{:016x}", summary.digest)}};
  json["failures"] = nlohmann::ordered_json::array();
  for (const CheckFailure& failure : summary.failures) {
    json["failures"].push_back({{"index", failure.index},
                                {"sentence", failure.sentence},
                                {"case", failure.case_line},
                                {"again", replay_command(options, schedules, failure.index)}});
  }
  return json.dump() + "\n";
}

}  // namespace comet::cli
