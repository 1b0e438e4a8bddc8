// SPDX-License-Identifier: Apache-2.0
// Every environment variable that Comet reads, read once, printed by `comet info`.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace comet {

struct Env {
  /// COMET_TIMEOUT_MS: longest wait for another rank; default 30,000.
  std::chrono::milliseconds timeout{30000};
};

/// The process's environment, read at the first call. Throws Error(invalid_argument) naming the
/// variable if a value cannot be parsed.
const Env& env();

/// One line per variable: name, value in force, meaning.
struct EnvLine {
  std::string name, value, meaning;
};
std::vector<EnvLine> describe_env();

}  // namespace comet
