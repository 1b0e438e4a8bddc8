// SPDX-License-Identifier: Apache-2.0
// comet plan: text and JSON as reviewed, and sums that must hold whatever the layout of the text.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <numeric>

#include "cli/golden.hpp"
#include "cli/run_comet.hpp"

namespace comet::cli {
namespace {

const std::vector<std::string> kSmall = {"plan", "--experts", "8",  "--topk",
                                         "2",    "--hidden",  "64", "--intermediate",
                                         "128",  "--tokens",  "301"};

std::vector<std::string> small(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = kSmall;
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

std::string output_of(const std::vector<std::string>& arguments) {
  const Outcome outcome = run_comet(arguments);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  return outcome.out;
}

nlohmann::json json_of(std::vector<std::string> arguments) {
  arguments.push_back("--json");
  return nlohmann::json::parse(output_of(arguments));
}

TEST(Plan, TextIsAsReviewed) { expect_golden("plan.txt", output_of(small({"--ep", "2"}))); }

TEST(Plan, TextOfOneRankIsAsReviewed) {
  expect_golden("plan_rank.txt", output_of(small({"--world", "local:4", "--tp", "2", "--rank", "3",
                                                  "--groups", "2", "--block-m", "16"})));
}

TEST(Plan, JsonIsAsReviewed) {
  expect_golden("plan.json", output_of(small({"--ep", "2", "--json"})));
}

TEST(Plan, SameSeedSamePlan) {
  const auto arguments = small({"--ep", "4", "--routing", "zipf:1.2", "--seed", "7"});
  EXPECT_EQ(output_of(arguments), output_of(arguments));
}

TEST(Plan, SplitsTokensEvenlyAndKeepsAllRows) {
  const nlohmann::json json = json_of(small({"--ep", "3", "--routing", "std:0.05"}));
  std::vector<int> tokens;
  int rows = 0;
  for (const auto& rank : json.at("ranks")) {
    tokens.push_back(rank.at("tokens"));
    rows += rank.at("rows").get<int>();
  }
  EXPECT_EQ(tokens, (std::vector<int>{101, 100, 100}));
  EXPECT_EQ(rows, 301 * 2);
}

TEST(Plan, OneRankOfJson) {
  const nlohmann::json all = json_of(small({"--ep", "2", "--tp", "2"}));
  const nlohmann::json one = json_of(small({"--ep", "2", "--tp", "2", "--rank", "2"}));
  EXPECT_EQ(one.at("rank"), 2);
  ASSERT_EQ(one.at("ranks").size(), 1U);
  EXPECT_EQ(one.at("ranks").at(0), all.at("ranks").at(2));
  EXPECT_EQ(one.at("dispatch_bytes"), all.at("dispatch_bytes"));
}

TEST(Plan, WorldGivesWhatIsNotSaid) {
  const auto parallel = [](const std::vector<std::string>& more) {
    const nlohmann::json query = json_of(small(more)).at("query");
    return std::pair<int, int>(query.at("ep"), query.at("tp"));
  };
  EXPECT_EQ(parallel({}), std::pair(1, 1));
  EXPECT_EQ(parallel({"--ep", "4"}), std::pair(4, 1));
  EXPECT_EQ(parallel({"--tp", "4"}), std::pair(1, 4));
  EXPECT_EQ(parallel({"--world", "local:4"}), std::pair(4, 1));
  EXPECT_EQ(parallel({"--world", "local:4", "--tp", "2"}), std::pair(2, 2));
  EXPECT_EQ(parallel({"--world", "local:6", "--ep", "3"}), std::pair(3, 2));
  EXPECT_EQ(parallel({"--world", "local", "--ep", "2", "--tp", "2"}), std::pair(2, 2));
}

TEST(Plan, NumbersReplaceTheModels) {
  const nlohmann::json query = json_of({"plan", "--model", "phimoe", "--topk", "4", "--hidden",
                                        "128", "--tokens", "32", "--dtype", "f32"})
                                   .at("query");
  EXPECT_EQ(query.at("model"), "phimoe");
  EXPECT_EQ(query.at("experts"), 16);
  EXPECT_EQ(query.at("topk"), 4);
  EXPECT_EQ(query.at("hidden"), 128);
  EXPECT_EQ(query.at("intermediate"), 6400);
  EXPECT_EQ(query.at("dtype"), "f32");
}

TEST(Plan, HotExpertGetsEveryToken) {
  const nlohmann::json json = json_of(small({"--ep", "4", "--routing", "hot"}));
  EXPECT_EQ(json.at("ranks").at(0).at("rows_per_expert").at(0), 301);
}

TEST(Plan, NoTokensIsAPlan) {
  const nlohmann::json json = json_of({"plan", "--model", "mixtral", "--tokens", "0", "--ep", "2"});
  EXPECT_EQ(json.at("busiest_bytes"), 0);
  EXPECT_EQ(json.at("ranks").at(1).at("tiles"), 0);
}

TEST(Plan, PredictsTimesOfAMachineAndSaysSo) {
  const nlohmann::json plain = json_of(small({"--ep", "2"}));
  EXPECT_FALSE(plain.contains("prediction"));
  const std::string text = output_of(small({"--ep", "2", "--predict"}));
  EXPECT_NE(text.find("PREDICTED for machine h100, nothing was run"), std::string::npos) << text;
  const nlohmann::json json =
      json_of(small({"--ep", "2", "--machine", "l20", "--link", "paced:3"})).at("prediction");
  EXPECT_EQ(json.at("machine"), "l20");
  EXPECT_NE(json.at("source").get<std::string>().find("published"), std::string::npos);
  EXPECT_EQ(json.at("schedules").at(0).at("schedule"), "sequential");
  double last = 0;
  for (std::size_t i = 1; i < json.at("schedules").size(); ++i) {
    const auto& row = json.at("schedules").at(i);
    EXPECT_EQ(row.at("schedule"), "comet");
    EXPECT_GE(row.at("predicted_us").get<double>(), last);
    EXPECT_GE(row.at("predicted_us").get<double>(), row.at("link_us").get<double>());
    last = row.at("predicted_us").get<double>();
  }
}

TEST(Plan, PredictionsFollowTheLayerAndTheMultiprocessors) {
  const auto sequential_us = [](const std::vector<std::string>& more) {
    std::vector<std::string> flags = {"plan", "--model", "mixtral", "--ep", "8", "--predict"};
    flags.insert(flags.end(), more.begin(), more.end());
    return json_of(flags).at("prediction").at("schedules").at(0).at("predicted_us").get<double>();
  };
  const double whole = sequential_us({});
  EXPECT_GT(sequential_us({"--workers", "66"}), 1.4 * whole);
  EXPECT_EQ(sequential_us({"--workers", "132"}), whole);
  EXPECT_LT(sequential_us({"--ungated"}), 0.9 * whole);
}

// The busiest rank decides: a skewed routing is predicted to take longer.
TEST(Plan, PredictionsFollowTheRouting) {
  const auto sequential_us = [](const char* routing) {
    return json_of({"plan", "--model", "mixtral", "--ep", "8", "--predict", "--routing", routing})
        .at("prediction")
        .at("schedules")
        .at(0)
        .at("predicted_us")
        .get<double>();
  };
  EXPECT_GT(sequential_us("hot"), 2 * sequential_us("uniform"));
}

TEST(Plan, RefusesPredictionsWithoutGrounds) {
  expect_refusal(run_comet(small({"--machine", "abacus"})), 2, "one of h100");
  expect_refusal(run_comet(small({"--ep", "2", "--link", "paced:auto"})), 2, "needs the rate");
  expect_refusal(run_comet(small({"--profile", "/nowhere.json"})), 2, "/nowhere.json");
  expect_refusal(run_comet(small({"--profile", "a", "--machine", "h100"})), 2, "give one");
  expect_refusal(run_comet(small({"--ep", "2", "--machine", "cpu", "--link", "host"})), 2,
                 "only between ranks on GPUs");
  expect_refusal(run_comet(small({"--ep", "2", "--ranks-per-device", "3"})), 2, "the 2 ranks");
  expect_refusal(run_comet(small({"--ep", "2", "--workers", "133"})), 2,
                 "the 132 multiprocessors that machine h100 has");
  expect_refusal(run_comet(small({"--ep", "2", "--ranks-per-device", "2", "--workers", "67"})), 2,
                 "the 66 multiprocessors");
  EXPECT_EQ(run_comet(small({"--ep", "2", "--machine", "cpu", "--workers", "9"})).code, 0);
}

}  // namespace
}  // namespace comet::cli
