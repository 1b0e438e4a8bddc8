// SPDX-License-Identifier: Apache-2.0
// Runs the built `comet`, or a program that starts it, and keeps what it wrote and how it ended.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace comet::cli {

struct Outcome {
  int code = -1;  ///< Exit code; 128 + n after signal n.
  std::string out;
  std::string err;
};

struct RunSettings {
  std::string stdout_path = {};             ///< Instead of a file that is read back.
  bool close_stdout = false;                ///< Start with descriptor 1 closed.
  std::vector<std::string> variables = {};  ///< NAME=value, added to the environment.
  std::function<void(pid_t)> meanwhile =
      {};  ///< Called with its process, which then is waited for.
};

/// Path of the built command.
std::string comet_path();

/// `program` is a path.
Outcome run_program(const std::string& program, const std::vector<std::string>& arguments,
                    const RunSettings& settings = {});
Outcome run_comet(const std::vector<std::string>& arguments, const RunSettings& settings = {});

/// Exit code `code`, nothing on standard output, and one line "comet: ..." on standard error that
/// contains `words`. Reports a GoogleTest failure otherwise.
void expect_refusal(const Outcome& outcome, int code, const std::string& words);

/// The checkpoint `name` of tests/data/checkpoints.
std::filesystem::path checkpoint(const std::string& name);

}  // namespace comet::cli
