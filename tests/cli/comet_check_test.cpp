// SPDX-License-Identifier: Apache-2.0
// comet check: exactly one summary line, which names world, ranks and seed.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/run_comet.hpp"
#include "comm/device_ranks.hpp"

namespace comet::cli {
namespace {

std::string line_of(const std::vector<std::string>& arguments) {
  const Outcome outcome = run_comet(arguments);
  EXPECT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  EXPECT_EQ(outcome.err, "") << "progress belongs on a terminal only";
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 1) << outcome.out;
  return outcome.out;
}

TEST(Check, RandomCasesPass) {
  const std::string line = line_of({"check", "--random", "5", "--seed", "3", "--world", "local"});
  EXPECT_TRUE(line.starts_with("check: 5 cases, world local, ranks ")) << line;
  EXPECT_NE(line.find(", seed 3: all passed ("), std::string::npos) << line;
  EXPECT_EQ(line, line_of({"check", "--random", "5", "--seed", "3"}));
}

TEST(Check, OneCaseByItsIndex) {
  const std::string line = line_of({"check", "--seed", "3", "--index", "18446744073709551615"});
  EXPECT_TRUE(line.starts_with("check: 1 case (index 18446744073709551615), world local, ranks "))
      << line;
}

TEST(Check, FewerSchedulesAreFewerCalls) {
  const auto forwards = [](const std::string& line) {
    const std::size_t begin = line.find("passed (");
    return begin == std::string::npos ? 0 : std::stoi(line.substr(begin + 8));
  };
  const int all = forwards(line_of({"check", "--random", "2"}));
  const int some = forwards(line_of({"check", "--random", "2", "--schedules", "comet"}));
  EXPECT_LT(some, all);
  EXPECT_GT(some, 0);
}

TEST(Check, ABackendThatIsNotThereIsOneClearError) {
  if (!list_gpus().empty()) GTEST_SKIP() << "this machine has a GPU";
  const Outcome outcome = run_comet({"check", "--random", "3", "--backend", "cuda"});
  EXPECT_EQ(outcome.code, 2) << outcome.out;
  EXPECT_EQ(outcome.out, "");
  EXPECT_NE(outcome.err.find("[cuda] "), std::string::npos) << outcome.err;
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
}

TEST(Check, AScheduleThatTheBackendLacksIsOneClearError) {
  const Outcome outcome =
      run_comet({"check", "--random", "3", "--backend", "cuda", "--schedules", "reference"});
  EXPECT_EQ(outcome.code, 2) << outcome.out;
  EXPECT_NE(outcome.err.find("[check] schedule reference: cuda does not have it"),
            std::string::npos)
      << outcome.err;
}

TEST(Check, ABadVariableIsNoFaultOfACase) {
  expect_refusal(run_comet({"check", "--random", "2"}, {.variables = {"COMET_TIMEOUT_MS=soon"}}), 2,
                 "COMET_TIMEOUT_MS='soon'");
}

TEST(Check, EveryCaseHasTheRanksThatTheWorldHas) {
  const std::string line = line_of({"check", "--random", "5", "--world", "local:3"});
  EXPECT_TRUE(line.starts_with("check: 5 cases, world local, 3 ranks, seed 1: ")) << line;
}

TEST(Check, OneJsonObject) {
  const auto json = nlohmann::json::parse(
      line_of({"check", "--random", "11", "--seed", "5", "--world", "local:2", "--json"}));
  EXPECT_EQ(json.at("cases"), 11);
  EXPECT_EQ(json.at("world"), "local");
  EXPECT_EQ(json.at("ranks"), 2);
  EXPECT_EQ(json.at("fewest_ranks"), 2);
  EXPECT_EQ(json.at("backend"), "cpu");
  EXPECT_EQ(json.at("seed"), 5);
  EXPECT_EQ(json.at("faults"), 2);
  EXPECT_GT(json.at("calls"), 11);
  EXPECT_GT(json.at("largest_error"), 0);
  EXPECT_LT(json.at("largest_error"), 1);
  EXPECT_TRUE(json.at("failures").empty());
}

TEST(Check, ManyCallsOfOneLayer) {
  const std::string line = line_of({"check", "--random", "1", "--calls", "6"});
  EXPECT_NE(line.find("1 case (index 0)"), std::string::npos) << line;
}

}  // namespace
}  // namespace comet::cli
