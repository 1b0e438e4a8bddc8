// SPDX-License-Identifier: Apache-2.0
// The subcommands of `comet`. Each add_<name> declares its flags and, when it is the one that was
// asked for, leaves in the context what is to be done: parsing ends before anything runs.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace comet::cli {

struct Context {
  /// Set by the chosen subcommand's callback. Returns an exit code (exit_code.hpp) and throws
  /// Error.
  std::function<int()> command;
};

void add_info(CLI::App& app, Context& context);
void add_plan(CLI::App& app, Context& context);
void add_run(CLI::App& app, Context& context);
void add_check(CLI::App& app, Context& context);
void add_bench(CLI::App& app, Context& context);
void add_trace(CLI::App& app, Context& context);

}  // namespace comet::cli
