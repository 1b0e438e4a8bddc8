// SPDX-License-Identifier: Apache-2.0
// comet check: flags of random checks, their progress, and the report.
#include <memory>
#include <string>

#include "base/check.hpp"
#include "check/run_checks.hpp"
#include "cli/check_report.hpp"
#include "cli/commands.hpp"
#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/output.hpp"
#include "cli/progress.hpp"
#include "cli/shared_flags.hpp"

namespace comet::cli {
namespace {

struct CheckFlags {
  std::int64_t world_ranks = 0;
  CLI::Option* index_option = nullptr;
  std::uint64_t index = 0;
  CLI::Option* schedules_option = nullptr;
  std::string schedules;
  CheckOptions options;
};

int run_check(const CheckFlags& flags) {
  check(flags.world_ranks == 0, ErrorCode::invalid_argument,
        "[check] --world local:{}: every case draws its own number of ranks, so --world local",
        flags.world_ranks);
  CheckOptions options = flags.options;
  if (flags.index_option->count() > 0) {
    options.cases = 1;
    options.first_index = flags.index;
  }
  if (flags.schedules_option->count() > 0) options.run.schedules = parse_schedules(flags.schedules);
  Progress progress("check", options.cases, "cases");
  const CheckSummary summary = run_checks(options, [&](const CheckSummary& so_far) {
    progress.update(so_far.cases);
    return true;
  });
  progress.clear();
  print(check_text(options, flags.schedules, summary));
  return summary.failures.empty() ? kExitOk : kExitCheckFailed;
}

}  // namespace

void add_check(CLI::App& app, Context& context) {
  const auto flags = std::make_shared<CheckFlags>();
  CLI::App* command = app.add_subcommand(
      "check", "Check all schedules against each other and an oracle, on random cases");
  CLI::Option* random = add_integer(*command, {"--random", "Random cases to run", 1, 1'000'000'000},
                                    flags->options.cases);
  add_unsigned(*command, "--seed", flags->options.seed, "Of the cases");
  flags->index_option = add_unsigned(*command, "--index", flags->index, "Run this one case alone");
  flags->index_option->default_str("")->excludes(random);
  flags->schedules_option =
      command
          ->add_option(
              "--schedules", flags->schedules,
              "Of reference, sequential, pipelined, comet, separated by commas; by default "
              "all that the backend has, and sequential always runs")
          ->type_name("LIST");
  add_integer(*command,
              {"--calls", "Calls of one layer per case; 0: one by every schedule", 0, 1'000'000},
              flags->options.calls);
  add_integer(*command, {"--max-failures", "Stop after so many", 1, 1'000'000},
              flags->options.max_failures);
  add_parsed(*command, "--world", flags->world_ranks, parse_world, "local",
             "Where ranks live; how many is drawn for each case");
  add_parsed(*command, "--backend", flags->options.backend, parse_backend, "cpu|cuda",
             "What runs the layers: threads, or Hopper GPUs")
      ->default_str(std::string(to_string(flags->options.backend)));
  command->footer(examples("  comet check --random 200\n"
                           "  comet check --random 50 --seed 7 --schedules comet --calls 20\n"
                           "  comet check --random 50 --backend cuda\n"
                           "  comet check --seed 1 --index 17      run case 17 of seed 1 again\n") +
                  "\nA failed case is printed with the command that runs it again. Exit code 1 if "
                  "any failed.\n");
  command->callback([flags, &context] { context.command = [flags] { return run_check(*flags); }; });
}

}  // namespace comet::cli
