// SPDX-License-Identifier: Apache-2.0
// The subcommands of `comet`. Each add_<name> declares its flags and, when it is the one that was
// asked for, leaves in the context what is to be done: parsing ends before anything runs.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/ranks.hpp"
#include "cli/world_choice.hpp"

namespace comet::cli {

struct Context {
  /// Set by the chosen subcommand's callback. Returns an exit code (exit_code.hpp) and throws
  /// Error.
  std::function<int(Ranks&)> command;
  /// What --world says; null of subcommands without it.
  const WorldChoice* world = nullptr;
  /// What --backend says; null of a command that does not run on ranks. Ranks that are processes
  /// join before it.
  const Backend* ranks_backend = nullptr;

  /// What follows "--": the subcommand that `comet launch` runs on ranks, and its flags.
  std::vector<std::string> launched = {};
  /// Runs the command with these arguments in this process, as one rank of those that `comet
  /// launch` has started. Returns an exit code.
  std::function<int(const std::vector<std::string>& arguments, std::unique_ptr<LaunchedGroup>)>
      run_rank = {};
};

void add_info(CLI::App& app, Context& context);
void add_plan(CLI::App& app, Context& context);
void add_run(CLI::App& app, Context& context);
void add_check(CLI::App& app, Context& context);
void add_bench(CLI::App& app, Context& context);
void add_trace(CLI::App& app, Context& context);
void add_tune(CLI::App& app, Context& context);
void add_report(CLI::App& app, Context& context);
void add_launch(CLI::App& app, Context& context);

}  // namespace comet::cli
