// SPDX-License-Identifier: Apache-2.0
// A result that cannot be written is an error: full disks and closed outputs.
#include <gtest/gtest.h>

#include "cli/run_comet.hpp"
#include "io/temp_dir.hpp"

namespace comet::cli {
namespace {

std::vector<std::vector<std::string>> commands() {
  return {{"--help"},
          {"--version"},
          {"info"},
          {"plan", "--help"},
          {"plan", "--model", "mixtral", "--ep", "2", "--tokens", "64"},
          {"plan", "--model", "mixtral", "--ep", "8", "--tokens", "4096", "--json"},
          {"check", "--random", "1"}};
}

TEST(Output, FullDiskIsAnError) {
  for (const auto& command : commands()) {
    expect_refusal(run_comet(command, {.stdout_path = "/dev/full"}), 2,
                   "cannot write to standard output: No space left on device");
  }
}

TEST(Output, ClosedOutputIsAnError) {
  for (const auto& command : commands()) {
    expect_refusal(run_comet(command, {.close_stdout = true}), 2,
                   "cannot write to standard output");
  }
}

// A file that is opened first must not become descriptor 1 and get the text.
TEST(Output, ClosedOutputLeavesFilesWhole) {
  const TempDir dir;
  const std::string out = (dir / "y.safetensors").string();
  const std::vector<std::string> arguments = {
      "run", "--checkpoint", checkpoint("mixtral").string(), "--tokens", "random:5", "--out", out};
  expect_refusal(run_comet(arguments, {.close_stdout = true}), 2,
                 "cannot write to standard output");
  const auto size = std::filesystem::file_size(out);
  ASSERT_EQ(run_comet(arguments).code, 0);
  EXPECT_EQ(std::filesystem::file_size(out), size);
}

}  // namespace
}  // namespace comet::cli
