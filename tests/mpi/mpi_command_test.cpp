// SPDX-License-Identifier: Apache-2.0
// The command on ranks that mpirun has started: it finds them, speaks once for all, and says what
// ended it.
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

const Arguments kSmallLayer = {"--experts",      "6",  "--topk",   "2", "--hidden", "64",
                               "--intermediate", "96", "--tokens", "60"};
constexpr const char* kGone = "rank 1 is gone: its process ";

Arguments on_small_layer(Arguments arguments) {
  arguments.insert(arguments.end(), kSmallLayer.begin(), kSmallLayer.end());
  return arguments;
}

// One part of mpirun's command line: `ranks` processes of the command with these arguments.
Arguments part(int ranks, const Arguments& arguments) {
  Arguments all = {"-n", std::to_string(ranks), comet_path()};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return all;
}

Outcome run_mpi(const Arguments& parts, RunSettings settings = {}) {
  Arguments all = {"--oversubscribe", "--bind-to", "none"};
  all.insert(all.end(), parts.begin(), parts.end());
  for (const char* allowed : {"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"}) {
    settings.variables.emplace_back(allowed);
  }
  return run_program(COMET_MPIEXEC, all, settings);
}

// The lines of standard error that are ours; mpirun adds its own.
std::string own_lines(const std::string& text) {
  std::istringstream lines(text);
  std::string own;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("comet: ")) own += line + "\n";
  }
  return own;
}

// A code that is not 0, nothing on standard output and one sentence with these words.
void expect_one_sentence(const Outcome& outcome, const std::string& words) {
  const std::string own = own_lines(outcome.err);
  EXPECT_NE(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(std::count(own.begin(), own.end(), '\n'), 1) << outcome.err;
  EXPECT_NE(own.find(words), std::string::npos) << outcome.err << "lacks: " << words;
}

TEST(MpiCommand, CheckFindsTheWorldThatItIsStartedIn) {
  for (const int ranks : {2, 3, 4}) {
    const Outcome outcome = run_mpi(part(ranks, {"check", "--random", "12"}));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    const std::string expected =
        "check: 12 cases, world mpi, " + std::to_string(ranks) + " ranks, seed 1: all passed (";
    EXPECT_TRUE(outcome.out.starts_with(expected)) << outcome.out;
    EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 1) << outcome.out;
  }
}

TEST(MpiCommand, WorldIsWhatTheFlagSays) {
  const Outcome mpi = run_mpi(part(2, {"check", "--random", "2", "--world", "mpi", "--json"}));
  EXPECT_EQ(mpi.code, 0) << mpi.err;
  EXPECT_EQ(nlohmann::json::parse(mpi.out).at("world"), "mpi");
  const Outcome local = run_mpi(part(1, {"check", "--random", "2", "--world", "local:3"}));
  EXPECT_EQ(local.code, 0) << local.err;
  EXPECT_NE(local.out.find("world local, 3 ranks"), std::string::npos) << local.out;
}

TEST(MpiCommand, BenchAndTraceSpeakOnce) {
  const Outcome bench = run_mpi(part(4, on_small_layer({"bench", "--rounds", "2", "--ep", "2"})));
  EXPECT_EQ(bench.code, 0) << bench.err;
  const std::string line = "world mpi, 4 ranks that are processes (ep 2, tp 2)";
  EXPECT_NE(bench.out.find(line), std::string::npos) << bench.out;
  EXPECT_EQ(bench.out.find(line), bench.out.rfind(line)) << bench.out;
  const TempDir dir;
  const std::string file = (dir / "trace.json").string();
  const Outcome shown =
      run_mpi(part(2, on_small_layer({"trace", "--schedules", "comet", "--out", file})));
  EXPECT_EQ(shown.code, 0) << shown.err;
  EXPECT_EQ(shown.out.find("world mpi, 2 ranks"), shown.out.rfind("world mpi, 2 ranks"));
  EXPECT_TRUE(nlohmann::json::parse(std::ifstream(file)).contains("traceEvents"));
  const Outcome trace =
      run_mpi(part(2, on_small_layer({"trace", "--schedules", "comet", "--out", "/dev/null/x"})));
  expect_one_sentence(trace, "/dev/null/x");
}

TEST(MpiCommand, WhatAllRanksRefuseIsSaidOnce) {
  expect_one_sentence(run_mpi(part(3, {"check", "--bogus"})), "unexpected argument '--bogus'");
  expect_one_sentence(run_mpi(part(2, on_small_layer({"bench", "--link", "paced:1"}))),
                      "[world] mpi: link paced:1 is for ranks of one process");
  expect_one_sentence(run_mpi(part(2, {"launch", "--ranks", "2", "--", "check"})),
                      "2 processes that mpirun has started");
}

TEST(MpiCommand, AnInterfaceThatIsNotThereIsNamedAtOnce) {
  Arguments all;
  for (const char* host : {"COMET_HOST=a", "COMET_HOST=b"}) {
    if (!all.empty()) all.emplace_back(":");
    const Arguments check = part(1, {"check", "--random", "2"});
    all.insert(all.end(), {"-x", host});
    all.insert(all.end(), check.begin(), check.end());
  }
  const auto begin = std::chrono::steady_clock::now();
  const Outcome outcome =
      run_mpi(all, {.variables = {"COMET_INTERFACE=nope0", "COMET_TIMEOUT_MS=20000"}});
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(15));
  EXPECT_NE(outcome.code, 0);
  EXPECT_EQ(outcome.out, "");
  // Each host's rank says it: there is no world yet in which one could speak for all.
  const std::string own = own_lines(outcome.err);
  EXPECT_TRUE(own.starts_with(
      "comet: [world] rank 0 has no network address, and ranks of other hosts cannot reach it: "
      "COMET_INTERFACE is 'nope0', and its host has no such interface that is up\n"))
      << outcome.err;
}

// Two ranks with the first arguments, one with the last.
Outcome run_both(const Arguments& most, const Arguments& last) {
  Arguments all = part(2, most);
  all.emplace_back(":");
  const Arguments more = part(1, last);
  all.insert(all.end(), more.begin(), more.end());
  return run_mpi(all);
}

// Whatever the others are about to join: one on GPUs is not even built here.
TEST(MpiCommand, WhatOneRankRefusesIsSaidOnce) {
  for (const char* backend : {"cpu", "cuda"}) {
    const Arguments check = {"check", "--random", "2", "--backend", backend};
    expect_one_sentence(run_both(check, {"check", "--bogus"}), "unexpected argument '--bogus'");
    expect_one_sentence(run_both({"check", "--bogus"}, check), "unexpected argument '--bogus'");
  }
}

TEST(MpiCommand, RanksThatRunOtherThingsAreNamedBeforeAnyWork) {
  const Arguments bench = {"bench", "--model", "qwen2-moe", "--scale", "demo"};
  expect_one_sentence(run_both(bench, {"bench", "--model", "mixtral", "--scale", "demo"}),
                      "[world] rank 2 runs model mixtral, rank 0 qwen2-moe: all ranks");
  expect_one_sentence(
      run_both(bench, {"bench", "--model", "qwen2-moe", "--scale", "demo", "--dtype", "bf16"}),
      "[world] rank 2 runs dtype bf16, rank 0 f32, bf16 on cuda: all ranks");
  expect_one_sentence(run_both(bench, {"check"}),
                      "[world] rank 2 runs subcommand check, rank 0 bench: all ranks");
  expect_one_sentence(run_both({"check", "--random", "5"}, {"check", "--random", "6"}),
                      "[world] rank 2 runs random 6, rank 0 5: all ranks");
}

// mpirun ends the others when it sees that one has died.
TEST(MpiCommand, AKilledRankIsNamed) {
  std::vector<pid_t> ranks;
  pid_t victim = 0;
  std::chrono::steady_clock::time_point killed;
  const Outcome outcome =
      run_mpi(part(3, {"check", "--random", "100000000"}), {.meanwhile = [&](pid_t mpirun) {
                ranks = await_ranks(mpirun, 3);
                ASSERT_EQ(ranks.size(), 3);
                for (const pid_t rank : ranks) {
                  const std::string variables = proc_text(rank, "environ");
                  if (variables.find("OMPI_COMM_WORLD_RANK=1") != std::string::npos) victim = rank;
                }
                killed = std::chrono::steady_clock::now();
                ::kill(victim, SIGKILL);
              }});
  EXPECT_LT(std::chrono::steady_clock::now() - killed, std::chrono::seconds(4));
  expect_one_sentence(outcome, kGone + std::to_string(victim) + " has ended");
  for (const pid_t rank : ranks) EXPECT_FALSE(is_running(rank));
}

TEST(MpiCommand, ARankThatMpirunEndsSaysSo) {
  std::vector<pid_t> ranks;
  const Outcome outcome =
      run_mpi(part(2, {"check", "--random", "100000000"}), {.meanwhile = [&](pid_t mpirun) {
                ranks = await_ranks(mpirun, 2);
                ASSERT_EQ(ranks.size(), 2);
                ::kill(mpirun, SIGTERM);
              }});
  expect_one_sentence(outcome, "mpirun has ended this process (SIGTERM)");
  for (const pid_t rank : ranks) {  // mpirun may end first
    EXPECT_TRUE(await([&] { return !is_running(rank); }, std::chrono::seconds(2)));
  }
}

}  // namespace
}  // namespace comet::cli
