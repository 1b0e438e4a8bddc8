// SPDX-License-Identifier: Apache-2.0
// Every kind of error has the exit code that `comet --help` says.
#include "cli/exit_code.hpp"

#include <gtest/gtest.h>

namespace comet::cli {
namespace {

TEST(ExitCode, OfEveryErrorCode) {
  for (const ErrorCode code :
       {ErrorCode::invalid_argument, ErrorCode::out_of_range, ErrorCode::capacity, ErrorCode::io,
        ErrorCode::format, ErrorCode::mismatch, ErrorCode::unsupported}) {
    EXPECT_EQ(exit_code_of(code), 2);
  }
  EXPECT_EQ(exit_code_of(ErrorCode::timeout), 3);
  EXPECT_EQ(exit_code_of(ErrorCode::peer), 3);
  EXPECT_EQ(exit_code_of(ErrorCode::internal), 4);
}

}  // namespace
}  // namespace comet::cli
