// SPDX-License-Identifier: Apache-2.0
// comet launch: flags, and the command that its processes run.
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.hpp"
#include "base/env.hpp"
#include "cli/commands.hpp"
#include "cli/flags.hpp"
#include "cli/launcher.hpp"
#include "cli/shared_flags.hpp"

namespace comet::cli {
namespace {

struct LaunchFlags {
  std::int64_t ranks = 0;
  std::int64_t timeout_ms = 0;  // 0: as the environment says
};

int run_launch(const LaunchFlags& flags, const Context& context) {
  check(!context.launched.empty(), ErrorCode::invalid_argument,
        "[launch] nothing to run: comet launch --ranks {} -- <subcommand> ...", flags.ranks);
  check(context.launched.front() != "launch", ErrorCode::invalid_argument,
        "[launch] ranks cannot launch ranks: another subcommand");
  if (flags.timeout_ms > 0) {
    ::setenv(kTimeoutVariable, std::to_string(flags.timeout_ms).c_str(), 1);
  }
  return launch_ranks(static_cast<int>(flags.ranks), [&](std::unique_ptr<LaunchedGroup> group) {
    return context.run_rank(context.launched, std::move(group));
  });
}

}  // namespace

void add_launch(CLI::App& app, Context& context) {
  const auto flags = std::make_shared<LaunchFlags>();
  CLI::App* command = app.add_subcommand(
      "launch", "Run a subcommand, given after --, on ranks that are processes, without MPI");
  add_integer(*command, {"--ranks", "Processes to start", 1, kMaxRanks}, flags->ranks, false)
      ->required();
  add_integer(*command,
              {"--timeout",
               "Longest wait for another rank, in milliseconds; without it as "
               "COMET_TIMEOUT_MS says",
               1, 86'400'000},
              flags->timeout_ms, false);
  command->footer(
      examples("  comet launch --ranks 4 -- check --random 50\n"
               "  comet launch --ranks 8 -- bench --model qwen2-moe --scale demo --tp 2\n"
               "  comet launch --ranks 2 --timeout 5000 -- run --checkpoint DIR --tokens "
               "random:256\n") +
      "\nRank 0 shows the results. If a rank fails, all end, with the exit code of the first that "
      "did. Ranks do\nnot outlive this process, however it ends.\n");
  command->callback([flags, &context] {
    context.command = [flags, &context](Ranks& ranks) {
      ranks.check_alone("comet launch");
      return run_launch(*flags, context);
    };
  });
}

}  // namespace comet::cli
