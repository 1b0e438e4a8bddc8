// SPDX-License-Identifier: Apache-2.0
// comet bench from outside: rows in a file, and flags that name what is not here.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
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

std::vector<nlohmann::json> rows_of(const std::string& path) {
  std::ifstream file(path);
  std::vector<nlohmann::json> rows;
  for (std::string line; std::getline(file, line);) rows.push_back(nlohmann::json::parse(line));
  return rows;
}

TEST(Bench, RowsAreOfAllTiledSchedulesInF32AndOfTheGivenSuite) {
  const TempDir dir;
  const std::string path = (dir / "rows.jsonl").string();
  const Outcome outcome = bench({"--json", path, "--suite", "mine"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  std::vector<std::string> schedules;
  for (const nlohmann::json& row : rows_of(path)) {
    EXPECT_EQ(row.at("suite"), "mine");
    EXPECT_EQ(row.at("backend"), "cpu");
    EXPECT_EQ(row.at("graph"), false);
    EXPECT_EQ(row.at("dtype"), "f32");
    schedules.push_back(row.at("schedule"));
  }
  EXPECT_EQ(schedules, (std::vector<std::string>{"sequential", "pipelined", "comet"}));
}

TEST(Bench, CommandsAtTheSameTimeLoseNoRows) {
  const TempDir dir;
  const std::string path = (dir / "rows.jsonl").string();
  std::vector<std::thread> others;
  for (int i = 0; i < 3; ++i) {
    others.emplace_back([&] { EXPECT_EQ(bench({"--json", path}).code, 0); });
  }
  for (std::thread& other : others) other.join();
  EXPECT_EQ(rows_of(path).size(), 9U);
}

TEST(Bench, AddsNoRowsToAProfile) {
  const TempDir dir;
  dir.write("p.json", "{\n \"format\": \"comet-profile\"\n}\n");
  expect_refusal(bench({"--json", (dir / "p.json").string()}), 2, "p.json' holds no rows");
}

TEST(Bench, ARowForEachChoice) {
  const TempDir dir;
  const std::string path = (dir / "rows.jsonl").string();
  const Outcome outcome = bench({"--json", path, "--schedules", "sequential,comet", "--workers",
                                 "2", "--choices", "1:0:0/0,2:16:1/0:warps,3:8:0/1"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::vector<nlohmann::json> rows = rows_of(path);
  ASSERT_EQ(rows.size(), 4U);
  for (const nlohmann::json& row : rows) {
    if (row.at("groups") != 2) continue;
    EXPECT_EQ(row.at("panel"), 16);
    EXPECT_EQ(row.at("n_c_dispatch"), 1);
    EXPECT_EQ(row.at("n_c_combine"), 0);
  }
  expect_refusal(bench({"--choices", "1:0:0"}), 2, "choice '1:0:0': <groups>:<panel>");
  expect_refusal(bench({"--choices", "0:0:0/0"}), 2, "choice '0:0:0/0'");
  expect_refusal(bench({"--choices", "1:0:0/0:lanes"}), 2, "lanes");
}

TEST(Bench, ManyCasesInOneProcess) {
  const TempDir dir;
  const std::string path = (dir / "rows.jsonl").string();
  const std::string cases = (dir / "cases").string();
  dir.write("cases",
            "--tokens 32 --schedules sequential\n\n# a comment\n"
            "--experts 6 --schedules sequential,comet --groups 2  # another\n");
  const Outcome outcome = bench({"--cases", cases, "--json", path});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::vector<nlohmann::json> rows = rows_of(path);
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0].at("tokens"), 32);
  EXPECT_EQ(rows[0].at("experts"), 4);
  EXPECT_EQ(rows[2].at("tokens"), 64);
  EXPECT_EQ(rows[2].at("experts"), 6);
  const std::string command = rows[2].at("command");
  EXPECT_TRUE(command.ends_with("--experts 6 --schedules sequential,comet --groups 2")) << command;
  EXPECT_EQ(command.find("--cases"), std::string::npos) << command;
}

TEST(Bench, RefusesCasesThatItCannotRead) {
  const TempDir dir;
  const auto refused = [&](const std::string& text, const char* why) {
    dir.write("cases", text);
    expect_refusal(bench({"--cases", (dir / "cases").string()}), 2, why);
  };
  refused("# nothing\n", "no case in it");
  refused("--tokens 32\n--tokens x\n", "cases line 2");
  refused("--tokens 32\n--tokns 32 --ep 2\n", "cases line 2: unexpected argument '--tokns'");
  refused("--tokens 32\n\n--model x\n", "cases line 3: [model] unknown name 'x'");
  refused("--help\n", "cases line 1: --help is for the command line");
  refused("--world local:2\n", "--world is the same for all cases");
  dir.write("cases", std::string("--tok\0ns 32\n", 12));
  expect_refusal(bench({"--cases", (dir / "cases").string()}), 2,
                 "cases line 1: '--tok?ns 32' is no line of flags");
  refused("--link host\n", "only between ranks on GPUs");
  expect_refusal(bench({"--cases", "/nowhere"}), 2, "/nowhere");
  expect_refusal(run_comet({"bench", "--demo", "--cases", "x"}), 2, "not with --demo");
}

TEST(Bench, RefusesFlagsThatWouldBeIgnored) {
  for (const char* flag :
       {"--groups", "--panel", "--n-c-dispatch", "--n-c-combine", "--placement", "--waves"}) {
    const std::string value = flag == std::string("--placement") ? "warps" : "1";
    expect_refusal(bench({"--choices", "1:0:0/0", flag, value}), 2, "excludes --choices");
  }
  expect_refusal(bench({"--choices", "1:0:0/0", "--schedules", "sequential"}), 2,
                 "of comet, which --schedules leaves out");
  expect_refusal(run_comet({"bench", "--demo", "--model", "mixtral"}), 2, "not with --model");
  expect_refusal(run_comet({"bench", "--demo", "--world", "local:2"}), 2, "not with --world");
}

TEST(Bench, RefusesChoicesThatItCannotRead) {
  const auto refused = [](const std::string& choice, const std::string& words) {
    expect_refusal(bench({"--choices", "1:0:0/0," + choice + ",1:0:0/0"}), 2, words);
  };
  for (const char* const choice : {"", "0:0:0/0", "1:0:0", "1:0:0/0warps", "1:0:0/0:warps:0",
                                   "1:0:0/0:warps:65", "1:0:0/0:warps:", "1:0:0/0:warps:2x"}) {
    refused(choice, std::string("[flags] choice '") + choice + "': <groups>:<panel>:");
  }
  refused("1:0:0/0:threads", "[placement] unknown name 'threads'");
  refused("1:0:0/0::2", "[placement] unknown name ''");
  expect_refusal(bench({"--waves", "65"}), 2,
                 "[flags] --waves: '65', auto or a whole number from 1 to 64");
  expect_refusal(bench({"--groups", "0"}), 2,
                 "[flags] --groups: '0', auto or a whole number from 1 to 1024");
}

TEST(Bench, RefusesOnCpuWhatOnlyGpusHave) {
  const std::string graphs = "[flags] --no-graphs: calls on cpu are never replayed; for --backend ";
  const std::string placement = "[flags] --placement: workers on cpu are threads, of no warps or ";
  expect_refusal(bench({"--no-graphs"}), 2, graphs);
  expect_refusal(bench({"--placement", "blocks"}), 2, placement);
  expect_refusal(bench({"--placement", "warps"}), 2, placement);
  expect_refusal(bench({"--waves", "2"}), 2,
                 "[flags] --waves: cpu cuts no tiles into waves; for --backend");
  for (const char* const choice : {"2:0:0/0:blocks", "2:0:0/0:warps:3"}) {
    expect_refusal(bench({"--choices", std::string("1:0:0/0,") + choice}), 2,
                   "[flags] --choices: cpu has no blocks and no waves; for --backend cuda");
  }
  EXPECT_EQ(bench({"--placement", "auto", "--schedules", "sequential"}).code, 0);
  const TempDir dir;
  dir.write("cases", "--tokens 32\n--tokens 32 --no-graphs\n");
  expect_refusal(bench({"--cases", (dir / "cases").string()}), 2, "cases line 2: " + graphs);
}

TEST(Bench, RefusesLayersThatNoMachineHolds) {
  const std::vector<std::string> large = {"bench",    "--experts", "60000",          "--topk", "2",
                                          "--hidden", "8192",      "--intermediate", "8192"};
  expect_refusal(run_comet(large), 2, "[memory] the experts' weights take 45000.0 GiB, and ");
  const std::vector<std::string> long_call = {"bench",    "--experts",      "2",     "--topk",
                                              "1",        "--hidden",       "65536", "--tokens",
                                              "16777216", "--intermediate", "8"};
  expect_refusal(run_comet(long_call), 2,
                 "[memory] weights, tokens, results and workspaces take 16");
}

TEST(Bench, RefusesFilesThatAreNoneOrOneAnother) {
  const TempDir dir;
  const std::string file = (dir / "f").string(), same = (dir / "." / "f").string();
  for (const char* flag : {"--json", "--svg", "--cases"}) {
    expect_refusal(bench({flag, ""}), 2, std::string(flag) + ": '', the name of a file");
  }
  expect_refusal(bench({"--json", file, "--svg", same}), 2, "a file other than that of --json");
  dir.write("f", "--tokens 32\n");
  expect_refusal(bench({"--json", same, "--cases", file}), 2, "a file other than that of --cases");
  std::ifstream kept(file);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(kept), {}), "--tokens 32\n");
}

// Commands that measure a rate say so, others do not.
TEST(Bench, HelpTellsOfALinkWhoseRateIsMeasured) {
  const auto tells = [](const char* command) {
    return run_comet({command, "--help"}).out.find("paced:auto[:<ratio>]") != std::string::npos;
  };
  EXPECT_TRUE(tells("bench"));
  EXPECT_TRUE(tells("trace"));
  EXPECT_FALSE(tells("tune"));
  EXPECT_FALSE(tells("run"));
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
