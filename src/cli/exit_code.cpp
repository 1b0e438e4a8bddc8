// SPDX-License-Identifier: Apache-2.0
#include "cli/exit_code.hpp"

namespace comet::cli {

ExitCode exit_code_of(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::invalid_argument:
    case ErrorCode::out_of_range:
    case ErrorCode::capacity:
    case ErrorCode::io:
    case ErrorCode::format:
    case ErrorCode::mismatch:
    case ErrorCode::unsupported:
      return kExitBadInput;
    case ErrorCode::timeout:
    case ErrorCode::peer:
      return kExitRankFailed;
    case ErrorCode::internal:
      break;
  }
  return kExitInternal;
}

}  // namespace comet::cli
