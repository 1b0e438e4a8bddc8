// SPDX-License-Identifier: Apache-2.0
// comet launch: flags, the command that its processes run, and the GPUs that they see.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/check.hpp"
#include "base/env.hpp"
#include "cli/commands.hpp"
#include "cli/flags.hpp"
#include "cli/launch_gpus.hpp"
#include "cli/launcher.hpp"
#include "cli/mps_control.hpp"
#include "cli/mps_daemon.hpp"
#include "cli/shared_flags.hpp"

namespace comet::cli {
namespace {

struct LaunchFlags {
  std::int64_t ranks = 0;
  std::int64_t gpus = 0;        // 0: ranks are told of none
  std::int64_t timeout_ms = 0;  // 0: as the environment says
};

using RunRank = std::function<int(std::unique_ptr<LaunchedGroup>)>;

// An MPS that the user has started, which then is used and left alone.
bool is_mps_given() {
  const char* const pipes = std::getenv(kMpsPipesVariable);
  if (pipes == nullptr || *pipes == '\0') return false;
  std::error_code error;
  check(std::filesystem::exists(std::filesystem::path(pipes) / "control", error),
        ErrorCode::invalid_argument,
        "[launch] {}='{}': no MPS listens there: start it, or unset the variable and comet launch "
        "starts one of its own",
        kMpsPipesVariable, pipes);
  return true;
}

int launch_on_gpus(int ranks, int gpus, const RunRank& run) {
  const std::vector<std::string> names = name_gpus(gpus);
  const bool needs_mps = ranks > gpus && !is_mps_given();
  std::optional<MpsDaemon> mps;
  const auto start = [&] {
    if (needs_mps) mps.emplace(fmt::format("{}", fmt::join(names, ",")));
    show_gpus(names, needs_mps);
  };
  return launch_ranks(ranks, {.before = start, .rank = run, .after = [&] { mps.reset(); }});
}

int run_launch(const LaunchFlags& flags, const Context& context) {
  check(!context.launched.empty(), ErrorCode::invalid_argument,
        "[launch] nothing to run: comet launch --ranks {} -- <subcommand> ...", flags.ranks);
  check(context.launched.front() != "launch", ErrorCode::invalid_argument,
        "[launch] ranks cannot launch ranks: another subcommand");
  if (flags.timeout_ms > 0) {
    ::setenv(kTimeoutVariable, std::to_string(flags.timeout_ms).c_str(), 1);
  }
  const RunRank run = [&](std::unique_ptr<LaunchedGroup> group) {
    return context.run_rank(context.launched, std::move(group));
  };
  const auto ranks = static_cast<int>(flags.ranks);
  if (flags.gpus == 0) return launch_ranks(ranks, {.before = {}, .rank = run, .after = {}});
  return launch_on_gpus(ranks, std::min(ranks, static_cast<int>(flags.gpus)), run);
}

}  // namespace

void add_launch(CLI::App& app, Context& context) {
  const auto flags = std::make_shared<LaunchFlags>();
  CLI::App* command = app.add_subcommand(
      "launch", "Run a subcommand, given after --, on ranks that are processes, without MPI");
  add_integer(*command, {"--ranks", "Processes to start", 1, kMaxRanks}, flags->ranks, false)
      ->required();
  add_integer(*command,
              {"--gpus",
               "GPUs to spread the ranks over, the first of CUDA_VISIBLE_DEVICES if that is set; "
               "neighbours share one",
               1, kMaxRanks},
              flags->gpus, false);
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
               "random:256\n"
               "  comet launch --ranks 8 --gpus 1 -- check --random 50 --backend cuda\n") +
      "\nRank 0 shows the results. If a rank fails, all end, with the exit code of the first that "
      "did. Ranks do\nnot outlive this process, however it ends.\n"
      "\nRanks that share a GPU do so by NVIDIA's MPS, which is started for them and ended after "
      "them, beside any\nother on the machine. If you have started one for them, "
      "CUDA_MPS_PIPE_DIRECTORY says where, and it is used.\n");
  command->callback([flags, &context] {
    context.command = [flags, &context](Ranks& ranks) {
      ranks.check_alone("comet launch");
      return run_launch(*flags, context);
    };
  });
}

}  // namespace comet::cli
