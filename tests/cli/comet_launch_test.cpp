// SPDX-License-Identifier: Apache-2.0
// comet launch: the other subcommands on ranks that are processes, and how those end.
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/processes.hpp"
#include "cli/run_comet.hpp"
#include "io/temp_dir.hpp"

namespace comet::cli {
namespace {

using Arguments = std::vector<std::string>;

Arguments launched(int ranks, const Arguments& arguments) {
  Arguments all = {"launch", "--ranks", std::to_string(ranks), "--"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return all;
}

const Arguments kSmallLayer = {"--experts",      "6",  "--topk",   "2", "--hidden", "64",
                               "--intermediate", "96", "--tokens", "60"};

Arguments on_small_layer(Arguments arguments) {
  arguments.insert(arguments.end(), kSmallLayer.begin(), kSmallLayer.end());
  return arguments;
}

const Arguments kEndless = {"check", "--random", "100000000"};

std::int64_t num_lines(const std::string& text) {
  return std::count(text.begin(), text.end(), '\n');
}

TEST(Launch, ChecksOnProcesses) {
  for (const int ranks : {1, 3}) {
    const Outcome outcome = run_comet(launched(ranks, {"check", "--random", "12"}));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    EXPECT_EQ(num_lines(outcome.out), 1) << outcome.out;
    const std::string expected = "check: 12 cases, world process, " + std::to_string(ranks) +
                                 (ranks == 1 ? " rank" : " ranks") + ", seed 1: all passed (";
    EXPECT_TRUE(outcome.out.starts_with(expected)) << outcome.out;
  }
}

TEST(Launch, ChecksManyCallsOfOneLayer) {
  const Outcome outcome =
      run_comet(launched(2, {"check", "--random", "3", "--calls", "6", "--json"}));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const auto json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json.at("world"), "process");
  EXPECT_EQ(json.at("ranks"), 2);
  EXPECT_EQ(json.at("fewest_ranks"), 2);
}

TEST(Launch, BenchIsShownAndWrittenOnce) {
  const TempDir dir;
  const std::string rows = (dir / "rows.jsonl").string();
  const Outcome outcome = run_comet(
      launched(2, on_small_layer({"bench", "--rounds", "2", "--tp", "2", "--json", rows})));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("world process, 2 ranks that are processes (ep 1, tp 2)"),
            std::string::npos)
      << outcome.out;
  EXPECT_NE(outcome.out.find("checked: 60 of 60 tokens"), std::string::npos) << outcome.out;
  std::ifstream file(rows);
  int num_rows = 0;
  for (std::string line; std::getline(file, line); ++num_rows) {
    const auto json = nlohmann::json::parse(line);
    EXPECT_EQ(json.at("world"), "process");
    EXPECT_EQ(json.at("ranks"), 2);
  }
  EXPECT_EQ(num_rows, 3);
}

TEST(Launch, TraceHasTheWorkOfAllProcesses) {
  const TempDir dir;
  const std::string trace = (dir / "trace.json").string();
  const Outcome outcome =
      run_comet(launched(3, on_small_layer({"trace", "--schedules", "comet", "--out", trace})));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const auto json = nlohmann::json::parse(std::ifstream(trace));
  std::vector<int> num_events(3);
  for (const auto& event : json.at("traceEvents")) {
    if (event.at("ph") == "X") ++num_events.at(event.at("pid").get<int>() % 1000);
  }
  for (const int events : num_events) EXPECT_GT(events, 0);
}

// y is gathered from all processes: it is the one of a single process.
TEST(Launch, RunWritesTheWholeResult) {
  const TempDir dir;
  const auto run = [&](const std::string& name, const Arguments& world) {
    Arguments arguments = {"run",      "--checkpoint",       checkpoint("mixtral").string(),
                           "--tokens", "random:33",          "--check",
                           "--out",    (dir / name).string()};
    arguments.insert(arguments.end(), world.begin(), world.end());
    return arguments;
  };
  const Outcome outcome = run_comet(launched(2, run("processes", {})));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("world     process:2, ep 2 x tp 1"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("tokens    33; per rank 17 16"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find(": passed"), std::string::npos) << outcome.out;
  EXPECT_EQ(run_comet(run("threads", {"--world", "local:2"})).code, 0);
  const auto read = [&](const std::string& name) {
    std::ifstream file(dir / name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  EXPECT_FALSE(read("processes").empty());
  EXPECT_EQ(read("processes"), read("threads"));
}

TEST(Launch, PlanAndInfoAreShownOnce) {
  const Outcome plan = run_comet(launched(3, {"plan", "--model", "mixtral", "--tokens", "64"}));
  EXPECT_EQ(plan.code, 0) << plan.err;
  EXPECT_NE(plan.out.find("ranks: ep 3 x tp 1"), std::string::npos) << plan.out;
  EXPECT_EQ(plan.out.find("layer: mixtral"), plan.out.rfind("layer: mixtral")) << plan.out;
  const Outcome info = run_comet({"launch", "--ranks", "2", "--timeout", "1234", "--", "info"});
  EXPECT_EQ(info.code, 0) << info.err;
  EXPECT_NE(info.out.find("COMET_TIMEOUT_MS=1234"), std::string::npos) << info.out;
  EXPECT_EQ(info.out.find("COMET_TIMEOUT_MS="), info.out.rfind("COMET_TIMEOUT_MS=")) << info.out;
}

TEST(Launch, WhatAllRanksRefuseIsSaidOnce) {
  const struct {
    Arguments arguments;
    std::string words;
  } lines[] = {
      {launched(3, {}), "nothing to run"},
      {{"launch", "--", "check"}, "--ranks is required"},
      {{"launch", "--ranks", "0", "--", "check"}, "--ranks: '0'"},
      {{"launch", "--ranks", "2", "check"}, "unexpected argument 'check'"},
      {launched(3, {"chek"}), "unknown subcommand 'chek'"},
      {launched(3, {"check", "--bogus"}), "unexpected argument '--bogus'"},
      {launched(2, launched(2, {"check"})), "ranks cannot launch ranks"},
      {launched(3, {"check", "--world", "local"}), "leave --world out"},
      {launched(3, {"check", "--world", "mpi"}), "leave --world out"},
      {launched(2, on_small_layer({"bench", "--link", "paced:1"})),
       "link paced:1 is for ranks of one process, whose clocks all see: run it without comet "
       "launch and with --world local:2"},
      {launched(2, {"bench", "--demo"}), "link paced:auto:0.6 is for ranks of one"},
      {launched(2, on_small_layer({"bench", "--backend", "cuda"})), "run on cpu"},
      {launched(3, on_small_layer({"bench", "--ep", "2"})), "3 ranks do not fit --ep 2"},
      {launched(2, on_small_layer({"bench", "--json", "/nowhere/rows"})), "/nowhere/rows"},
  };
  for (const auto& line : lines) expect_refusal(run_comet(line.arguments), 2, line.words);
}

TEST(Launch, TooFewOpenFilesAreARefusal) {
  const std::string command =
      "ulimit -n 20; exec '" + comet_path() + "' launch --ranks 24 -- check --random 1";
  expect_refusal(run_program("/bin/sh", {"-c", command}), 2, "raise ulimit -n");
}

TEST(Launch, AKilledRankIsNamedAndAllEnd) {
  std::vector<pid_t> ranks;
  std::chrono::steady_clock::time_point killed;
  const Outcome outcome = run_comet(launched(3, kEndless), {.meanwhile = [&](pid_t launcher) {
                                      ranks = await_ranks(launcher, 3);
                                      ASSERT_EQ(ranks.size(), 3);
                                      killed = std::chrono::steady_clock::now();
                                      ::kill(ranks[1], SIGKILL);
                                    }});
  EXPECT_LT(std::chrono::steady_clock::now() - killed, std::chrono::seconds(3));
  expect_refusal(outcome, 3, "rank 1 is gone: its process " + std::to_string(ranks.at(1)) + " ");
  for (const pid_t rank : ranks) EXPECT_FALSE(is_running(rank));
}

// Before the ranks have met, the one that starts them says it.
TEST(Launch, ARankThatIsKilledAtOnceIsNamedToo) {
  const Outcome outcome =
      run_comet(launched(3, kEndless), {.meanwhile = [&](pid_t launcher) {
                  ASSERT_TRUE(await([&] { return children_of(launcher).size() == 3; }));
                  ::kill(children_of(launcher)[2], SIGKILL);
                }});
  expect_refusal(outcome, 3, "rank 2 is gone: its process ");
}

TEST(Launch, AStoppedRankIsNamedWithinTheTimeoutAndTwoSeconds) {
  std::chrono::steady_clock::time_point stopped;
  std::vector<pid_t> ranks;
  const Outcome outcome =
      run_comet(launched(3, kEndless),
                {.variables = {"COMET_TIMEOUT_MS=1000"}, .meanwhile = [&](pid_t launcher) {
                   ranks = await_ranks(launcher, 3);
                   ASSERT_EQ(ranks.size(), 3);
                   stopped = std::chrono::steady_clock::now();
                   ::kill(ranks[1], SIGSTOP);
                 }});
  EXPECT_LT(std::chrono::steady_clock::now() - stopped, std::chrono::seconds(3));
  expect_refusal(outcome, 3, "rank 1");
  for (const pid_t rank : ranks) EXPECT_FALSE(is_running(rank));
}

TEST(Launch, NoRankOutlivesAKilledLauncher) {
  std::vector<pid_t> ranks;
  const Outcome outcome = run_comet(launched(3, kEndless), {.meanwhile = [&](pid_t launcher) {
                                      ranks = await_ranks(launcher, 3);
                                      ASSERT_EQ(ranks.size(), 3);
                                      ::kill(launcher, SIGKILL);
                                    }});
  EXPECT_EQ(outcome.code, 128 + SIGKILL);
  for (const pid_t rank : ranks) {
    EXPECT_TRUE(await([&] { return !is_running(rank); }, std::chrono::seconds(2)));
  }
}

TEST(Launch, SignalsEndAllRanks) {
  for (const int signal : {SIGTERM, SIGINT}) {
    std::vector<pid_t> ranks;
    const Outcome outcome = run_comet(launched(3, kEndless), {.meanwhile = [&](pid_t launcher) {
                                        ranks = await_ranks(launcher, 3);
                                        ASSERT_EQ(ranks.size(), 3);
                                        ::kill(launcher, signal);
                                      }});
    expect_refusal(outcome, 128 + signal, "comet launch has ended this process (SIGTERM)");
    for (const pid_t rank : ranks) EXPECT_FALSE(is_running(rank));
  }
}

}  // namespace
}  // namespace comet::cli
