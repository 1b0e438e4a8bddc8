// SPDX-License-Identifier: Apache-2.0
// comet tune: a profile is made, added to, resumed and refused; what it says is what it holds.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>

#include "cli/run_comet.hpp"
#include "io/temp_dir.hpp"

namespace comet::cli {
namespace {

std::vector<std::string> tiny(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"tune", "--experts", "4",      "--topk",
                                        "2",    "--hidden",  "32",     "--intermediate",
                                        "64",   "--world",   "local:2"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

nlohmann::json profile_at(const std::filesystem::path& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

std::vector<nlohmann::json> lines_of(const Outcome& outcome) {
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  std::vector<nlohmann::json> lines;
  std::istringstream stream(outcome.out);
  for (std::string line; std::getline(stream, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

TEST(Tune, MakesAProfileAndGoesOnFromIt) {
  const TempDir dir;
  const std::string path = (dir / "p.json").string();
  const auto first =
      lines_of(run_comet(tiny({"--token-counts", "64,96", "--profile", path, "--json"})));
  ASSERT_EQ(first.size(), 2U);
  EXPECT_EQ(first[0].at("measured_now"), true);
  EXPECT_EQ(first[0].at("checked_tokens"), 64);
  EXPECT_GT(first[1].at("predicted_us").get<double>(), 0);
  const nlohmann::json& by_model = first[1].at("model_choice");
  EXPECT_GT(by_model.at("predicted_us").get<double>(), 0);
  for (const auto& [key, value] : by_model.items()) {
    EXPECT_TRUE(key == "predicted_us" || first[1].at("best").contains(key)) << key;
  }
  const auto second =
      lines_of(run_comet(tiny({"--token-counts", "64,128", "--profile", path, "--json"})));
  ASSERT_EQ(second.size(), 2U);
  EXPECT_EQ(second[0].at("measured_now"), false);
  EXPECT_EQ(second[0].at("best"), first[0].at("best"));
  EXPECT_EQ(second[1].at("measured_now"), true);
  const nlohmann::json profile = profile_at(path);
  EXPECT_EQ(profile.at("version"), 2);
  ASSERT_EQ(profile.at("rows").size(), 3U);
  EXPECT_EQ(profile.at("rows")[1].at("tokens"), 96);
  EXPECT_EQ(
      lines_of(run_comet(tiny({"--tokens", "64", "--profile", path, "--json", "--again"})))[0].at(
          "measured_now"),
      true);
}

TEST(Tune, CommandsAtTheSameTimeLoseNoCases) {
  const TempDir dir;
  const std::string path = (dir / "p.json").string();
  std::vector<std::thread> others;
  for (const char* tokens : {"64", "96", "128"}) {
    others.emplace_back([&path, tokens] {
      const Outcome outcome = run_comet(tiny({"--tokens", tokens, "--profile", path}));
      EXPECT_EQ(outcome.code, 0) << outcome.err;
    });
  }
  for (std::thread& other : others) other.join();
  EXPECT_EQ(profile_at(path).at("rows").size(), 3U);
}

TEST(Tune, CalibrationIsKeptAndUsed) {
  const TempDir dir;
  const std::string path = (dir / "p.json").string();
  const Outcome outcome =
      run_comet({"tune", "--calibrate", "--world", "local:2", "--profile", path});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("median error"), std::string::npos) << outcome.out;
  EXPECT_GT(profile_at(path).at("machine").at("rates").at("worker_tflops").get<double>(), 0);
  const Outcome plan = run_comet({"plan", "--experts", "4", "--topk", "2", "--hidden", "32",
                                  "--intermediate", "64", "--ep", "2", "--profile", path});
  EXPECT_EQ(plan.code, 0) << plan.err;
  EXPECT_NE(plan.out.find("calibrated on " + profile_at(path).at("device").get<std::string>()),
            std::string::npos)
      << plan.out;
}

TEST(Tune, TakesRowsOfABenchmark) {
  const TempDir dir;
  const std::string rows = (dir / "rows.jsonl").string();
  const std::string path = (dir / "p.json").string();
  ASSERT_EQ(run_comet({"bench", "--experts", "4", "--topk", "2", "--hidden", "32", "--intermediate",
                       "64", "--tokens", "64", "--ep", "2", "--json", rows})
                .code,
            0);
  const Outcome outcome = run_comet({"tune", "--rows", rows, "--profile", path});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("1 row, 1 of them new"), std::string::npos) << outcome.out;
  const nlohmann::json profile = profile_at(path);
  ASSERT_EQ(profile.at("rows").size(), 1U);
  EXPECT_EQ(profile.at("rows")[0].at("tokens"), 64);
  EXPECT_FALSE(profile.at("machine").is_null());
  // What cannot be written is told at once.
  expect_refusal(run_comet({"tune", "--rows", rows, "--profile", "/nowhere/p.json"}), 2,
                 "cannot create '/nowhere/p.json");
}

TEST(Tune, MergesProfiles) {
  const TempDir dir;
  const auto path = [&](const char* name) { return (dir / name).string(); };
  ASSERT_EQ(run_comet(tiny({"--token-counts", "64,96", "--profile", path("a.json")})).code, 0);
  ASSERT_EQ(run_comet(tiny({"--tokens", "128", "--profile", path("b.json")})).code, 0);
  const std::vector<std::string> merge = {"tune",         "--merge",   path("a.json"),
                                          path("b.json"), "--profile", path("both.json")};
  const Outcome outcome = run_comet(merge);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("3 rows, 3 of them new"), std::string::npos) << outcome.out;
  EXPECT_EQ(profile_at(path("both.json")).at("rows").size(), 3U);
  EXPECT_NE(run_comet(merge).out.find("3 rows, 0 of them new"), std::string::npos);
  dir.write("other.json",
            R"({"format":"comet-profile","version":2,"backend":"cuda","device":"NVIDIA X",)"
            R"("world":"local","machine":null,"rows":[]})");
  expect_refusal(run_comet({"tune", "--merge", path("a.json"), path("other.json"), "--profile",
                            path("none.json")}),
                 2, "other.json: of cuda 'NVIDIA X'");
  EXPECT_FALSE(std::filesystem::exists(path("none.json")));
}

TEST(Tune, RefusesProfilesThatAreDamagedOrOfAnotherDevice) {
  const TempDir dir;
  const std::string path = (dir / "p.json").string();
  const std::string text =
      R"({"format":"comet-profile","version":2,"backend":"cuda","device":"NVIDIA X","world":"local",)"
      R"("machine":null,"rows":[]})";
  dir.write("p.json", text);
  expect_refusal(run_comet(tiny({"--tokens", "64", "--profile", path})), 2, "NVIDIA X");
  std::ifstream file(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), text)
      << "it must stay as it was";
  dir.write("p.json", "{\"version\":");
  expect_refusal(run_comet(tiny({"--tokens", "64", "--profile", path})), 2, "p.json: bad JSON");
}

TEST(Tune, RefusesWhatCannotBeTuned) {
  expect_refusal(run_comet({"tune"}), 2, "nothing to do");
  expect_refusal(run_comet(tiny({"--link", "paced:auto"})), 2, "needs the rate");
  expect_refusal(run_comet(tiny({"--routing", "hot"})), 2, "uniform");
  expect_refusal(run_comet(tiny({"--rows", "x.jsonl"})), 2, "no layer");
  expect_refusal(run_comet(tiny({"--merge", "x.json"})), 2, "no layer");
  expect_refusal(run_comet({"tune", "--rows", "/nowhere.jsonl"}), 2, "/nowhere.jsonl");
  for (const char* split : {"2", "0x1", "x", "1x", "1x2x3", "-1x2"}) {
    expect_refusal(run_comet(tiny({"--splits", split})), 2,
                   "--splits: '" + std::string(split) + "', <EP>x<TP>, for example 4x2");
  }
  expect_refusal(run_comet(tiny({"--token-counts", "8,0"})), 2, "--token-counts: '0'");
  expect_refusal(run_comet(tiny({"--models", ""})), 2, "--models: ''");
  expect_refusal(run_comet(tiny({"--profile", ""})), 2, "--profile: ''");
  expect_refusal(run_comet(tiny({"--splits", "4x2"})), 2, "ep * tp");
}

TEST(Tune, AListStandsInThePlaceOfAFlag) {
  const std::vector<std::vector<std::string>> both = {{"--model", "a", "--models", "b"},
                                                      {"--tokens", "8", "--token-counts", "9"},
                                                      {"--ep", "1", "--splits", "1x2"},
                                                      {"--tp", "1", "--splits", "2x1"},
                                                      {"--link", "native", "--links", "paced:1"}};
  for (std::vector<std::string> flags : both) {
    flags.insert(flags.begin(), "tune");
    expect_refusal(run_comet(flags), 2, flags[1] + " excludes " + flags[3]);
  }
}

}  // namespace
}  // namespace comet::cli
