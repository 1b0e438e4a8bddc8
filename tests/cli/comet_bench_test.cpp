// SPDX-License-Identifier: Apache-2.0
// comet bench from outside: rows in a file, and flags that name what is not here.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/run_comet.hpp"
#include "io/temp_dir.hpp"

namespace comet::cli {
namespace {

Outcome bench(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"bench", "--experts",      "4",  "--topk", "2", "--hidden",
                                        "32",    "--intermediate", "32", "--ep",   "2", "--tokens",
                                        "64",    "--rounds",       "3"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_comet(arguments);
}

TEST(Bench, RowsAreOfAllTiledSchedulesInF32AndOfTheGivenSuite) {
  const TempDir dir;
  const std::string path = (dir / "rows.jsonl").string();
  const Outcome outcome = bench({"--json", path, "--suite", "mine"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  std::ifstream file(path);
  std::vector<std::string> schedules;
  for (std::string line; std::getline(file, line);) {
    const auto row = nlohmann::json::parse(line);
    EXPECT_EQ(row.at("suite"), "mine");
    EXPECT_EQ(row.at("backend"), "cpu");
    EXPECT_EQ(row.at("graph"), false);
    EXPECT_EQ(row.at("dtype"), "f32");
    schedules.push_back(row.at("schedule"));
  }
  EXPECT_EQ(schedules, (std::vector<std::string>{"sequential", "pipelined", "comet"}));
}

TEST(Bench, GpusThatAreNotThereAreRefused) {
  expect_refusal(bench({"--backend", "cuda"}), 2, "cuda: build with 'make cuda'");
  expect_refusal(bench({"--backend", "rocm"}), 2, "unknown name 'rocm': one of cpu, cuda");
  expect_refusal(bench({"--link", "host"}), 2, "only between ranks on GPUs");
  expect_refusal(run_comet({"bench", "--demo", "--backend", "cuda"}), 2, "--demo runs on cpu");
  const std::vector<std::string> trace = {"trace", "--model", "qwen2-moe",    "--backend",
                                          "cuda",  "--svg",   "unwritten.svg"};
  expect_refusal(run_comet(trace), 2, "cuda: build with 'make cuda'");
}

}  // namespace
}  // namespace comet::cli
