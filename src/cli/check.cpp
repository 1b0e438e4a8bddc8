// SPDX-License-Identifier: Apache-2.0
// comet check: flags of random checks, their progress, and the report.
#include <memory>
#include <string>

#include "base/check.hpp"
#include "base/env.hpp"
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
  WorldChoice world;
  CLI::Option* index_option = nullptr;
  std::uint64_t index = 0;
  CLI::Option* schedules_option = nullptr;
  std::string schedules;
  bool json = false;
  CheckOptions options;
};

int run_check(const CheckFlags& flags, const Ranks& ranks) {
  ranks.check_fits(flags.options.backend, {});
  env();  // a bad variable is refused here: it is no fault of a case
  CheckOptions options = flags.options;
  options.ranks = ranks.fixed();
  options.processes = ranks.world();
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
  print(flags.json ? check_json(options, flags.schedules, summary)
                   : check_text(options, flags.schedules, summary));
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
  add_world_choice(*command, flags->world, "W is drawn for each case, if not given");
  add_parsed(*command, "--backend", flags->options.backend, parse_backend, "cpu|cuda",
             "What runs the layers: threads, or Hopper GPUs")
      ->default_str(std::string(to_string(flags->options.backend)));
  command->add_flag("--json", flags->json, "One JSON object instead of text");
  command->footer(examples("  comet check --random 200\n"
                           "  comet check --random 50 --seed 7 --schedules comet --calls 20\n"
                           "  comet check --random 50 --backend cuda\n"
                           "  mpirun -n 4 comet check --random 50\n"
                           "  comet check --seed 1 --index 17      run case 17 of seed 1 again\n") +
                  "\nA failed case is printed with the command that runs it again. Exit code 1 if "
                  "any failed.\n");
  command->callback([flags, &context] {
    context.world = &flags->world;
    context.ranks_backend = &flags->options.backend;
    context.command = [flags](Ranks& ranks) { return run_check(*flags, ranks); };
  });
}

}  // namespace comet::cli
