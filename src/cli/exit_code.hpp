// SPDX-License-Identifier: Apache-2.0
// Exit codes of `comet`, documented in `comet --help`.
#pragma once

#include "comet/error.hpp"

namespace comet::cli {

enum ExitCode : int {
  kExitOk = 0,
  kExitCheckFailed = 1,   ///< The command ran, and what it checked is wrong.
  kExitBadInput = 2,      ///< The command line, a file, or what they ask for cannot be used.
  kExitRankFailed = 3,    ///< A rank failed or did not answer in time.
  kExitInternal = 4,      ///< A fault of Comet itself.
  kExitInterrupted = 130  ///< Ctrl-C ended a command that had more to do.
};

ExitCode exit_code_of(ErrorCode code) noexcept;

}  // namespace comet::cli
