// SPDX-License-Identifier: Apache-2.0
// What comet check says of failures, which a healthy engine never shows.
#include "cli/check_report.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "io/expect_error.hpp"

namespace comet::cli {
namespace {

TEST(CheckReport, FailureNamesTheCommandThatRunsItAgain) {
  CheckOptions options;
  options.cases = 100;
  options.seed = 7;
  options.calls = 20;
  CheckSummary summary;
  summary.cases = 12;
  summary.failures.push_back({.index = 11, .case_line = "E=4 K=2", .sentence = "y[3, 5] differs"});
  summary.stopped = true;
  const std::string text = check_text(options, "comet,pipelined", summary);
  EXPECT_TRUE(text.starts_with(
      "FAILED seed 7 index 11: y[3, 5] differs\n  case:  E=4 K=2\n"
      "  again: comet check --seed 7 --index 11 --schedules comet,pipelined --calls 20\n"
      "check: 12 cases, world local, ranks "))
      << text;
  EXPECT_NE(text.find(", seed 7: 1 FAILED, stopped early ("), std::string::npos) << text;
}

TEST(CheckReport, NamesABackendThatIsNotTheDefault) {
  CheckOptions options;
  options.backend = Backend::cuda;
  options.cases = 3;
  CheckSummary summary;
  summary.cases = 3;
  summary.failures.push_back({.index = 2, .case_line = "E=4", .sentence = "differs"});
  const std::string text = check_text(options, "", summary);
  EXPECT_NE(text.find("again: comet check --seed 1 --index 2 --backend cuda\n"), std::string::npos)
      << text;
  EXPECT_NE(text.find("check: 3 cases, world local on cuda, ranks "), std::string::npos) << text;
}

TEST(CheckReport, JsonHasEachFailureAndWhatRunsItAgain) {
  CheckOptions options;
  options.cases = 3;
  options.ranks = 4;
  CheckSummary summary;
  summary.cases = 3;
  summary.failures.push_back({.index = 2, .case_line = "E=4", .sentence = "y \"differs\""});
  const auto json = nlohmann::json::parse(check_json(options, "comet", summary));
  EXPECT_EQ(json.at("ranks"), 4);
  ASSERT_EQ(json.at("failures").size(), 1);
  const auto& failure = json.at("failures").at(0);
  EXPECT_EQ(failure.at("index"), 2);
  EXPECT_EQ(failure.at("case"), "E=4");
  EXPECT_EQ(failure.at("sentence"), "y \"differs\"");
  EXPECT_EQ(failure.at("again"),
            "comet check --seed 1 --index 2 --world local:4 --schedules comet");
}

TEST(CheckReport, NoFailure) {
  CheckOptions options;
  options.cases = 3;
  CheckSummary summary;
  summary.cases = 3;
  summary.forwards = 27;
  EXPECT_NE(check_text(options, "", summary).find(", seed 1: all passed (27 forward calls, "),
            std::string::npos);
}

TEST(CheckReport, SchedulesAreReadInOrder) {
  EXPECT_EQ(parse_schedules("comet,reference"),
            (std::vector<Schedule>{Schedule::comet, Schedule::reference}));
  for (const char* text : {"", ",", "comet,", "comet, reference", "Comet"}) {
    expect_error(ErrorCode::invalid_argument, "unknown name", [&] { parse_schedules(text); });
  }
}

}  // namespace
}  // namespace comet::cli
