// SPDX-License-Identifier: Apache-2.0
// Every environment variable that Comet reads, read once, printed by `comet info`.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace comet {

/// Name of the variable that sets Env::timeout.
inline constexpr const char* kTimeoutVariable = "COMET_TIMEOUT_MS";

struct Env {
  /// COMET_TIMEOUT_MS: longest wait for another rank; default 30,000.
  std::chrono::milliseconds timeout{30000};
  /// COMET_INTERFACE: the network interface by which ranks of several hosts reach each other;
  /// default: any.
  std::string interface_name;
  /// COMET_HOST: ranks with different values share no memory though they are on one host.
  std::string host;
  /// COMET_FORCE_PUTS=1: ranks that are processes on GPUs put to all others, also where they could
  /// write: a test of the calls, which says nothing of how a network delivers.
  bool force_puts = false;
  /// COMET_PROFILE: the file from which layers take what comet tune has measured; empty is none.
  std::string profile;
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
