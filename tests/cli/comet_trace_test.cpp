// SPDX-License-Identifier: Apache-2.0
// comet trace, and --svg of comet bench: files that viewers can open, or one line that says why
// not.
#include <gtest/gtest.h>

#include <filesystem>

#include "cli/run_comet.hpp"
#include "io/temp_dir.hpp"
#include "io/text_file.hpp"
#include "trace/trace_format.hpp"
#include "trace/well_formed.hpp"

namespace comet::cli {
namespace {

constexpr std::size_t kMostBytes = 16 << 20;

// `command` on a layer that takes milliseconds.
std::vector<std::string> small(const std::string& command, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {
      command, "--experts",      "4",         "--topk",    "2",   "--hidden",
      "64",    "--intermediate", "64",        "--tokens",  "200", "--ep",
      "2",     "--link",         "paced:0.1", "--workers", "2",   "--n-c-dispatch",
      "1",     "--n-c-combine",  "1"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

std::size_t files_in(const TempDir& dir) {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator(dir.path()), {}));
}

TEST(Trace, WritesATraceAndAPicture) {
  const TempDir dir;
  const std::string json = dir / "t.json", svg = dir / "t.svg";
  const Outcome outcome = run_comet(small("trace", {"--groups", "2", "--out", json, "--svg", svg}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  for (const std::string& words :
       {std::string("custom: 4 experts, top-2, H 64"), std::string("EMULATED link of 0.1 GB/s"),
        std::string("compute    copy    plan    wait    link"), std::string("\n  sequential "),
        std::string("\n  pipelined "), std::string("\n  comet "), json, svg}) {
    EXPECT_NE(outcome.out.find(words), std::string::npos) << words << "\n" << outcome.out;
  }
  std::set<int> processes;
  for (const auto& [key, events] :
       expect_trace_format(nlohmann::json::parse(read_text_file(json, kMostBytes)))) {
    processes.insert(key.first);
  }
  EXPECT_EQ(processes, (std::set<int>{1000, 1001, 2000, 2001, 3000, 3001}));
  const std::string picture = read_text_file(svg, kMostBytes);
  EXPECT_EQ(XmlReader(picture).fault(), "");
  EXPECT_NE(picture.find("EMULATED link of 0.1 GB/s"), std::string::npos);
  EXPECT_EQ(files_in(dir), 2U);
}

TEST(Trace, OneScheduleOfOneRank) {
  const TempDir dir;
  const std::string json = dir / "t.json";
  const Outcome outcome = run_comet(
      small("trace", {"--groups", "1", "--schedules", "comet", "--ranks", "1", "--out", json}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (const auto& [key, events] :
       expect_trace_format(nlohmann::json::parse(read_text_file(json, kMostBytes)))) {
    EXPECT_EQ(key.first, 1001);
  }
  EXPECT_EQ(outcome.out.find("sequential"), std::string::npos);
}

TEST(Trace, OneRankHasNoLink) {
  const TempDir dir;
  const std::string json = dir / "t.json";
  const Outcome outcome =
      run_comet({"trace", "--experts", "2", "--topk", "1", "--hidden", "32", "--intermediate", "32",
                 "--tokens", "64", "--schedules", "sequential", "--out", json});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(read_text_file(json, kMostBytes).find("link in"), std::string::npos);
}

// What the help of `command` says of --no-graphs.
std::string graphs_help(const char* command) {
  const std::string text = run_comet({command, "--help"}).out;
  const std::size_t begin = text.find("\n  --no-graphs ");
  return begin == std::string::npos ? ""
                                    : text.substr(begin, text.find("\n  --", begin + 1) - begin);
}

// Traced calls are made as timed ones are. Without CUDA no more is seen than that the flag is
// taken.
TEST(Trace, LaunchesCallsAnewLikeBench) {
  const TempDir dir;
  EXPECT_NE(graphs_help("trace").find("launch every call anew"), std::string::npos);
  EXPECT_EQ(graphs_help("trace"), graphs_help("bench"));
  expect_refusal(run_comet({"trace", "--model", "qwen2-moe", "--backend", "cuda", "--no-graphs",
                            "--svg", dir / "t.svg"}),
                 2, "cuda: build with 'make cuda'");
}

TEST(Trace, RefusesWithOneLine) {
  const TempDir dir;
  const std::string json = dir / "t.json";
  const auto refuse = [&](const std::vector<std::string>& more, const std::string& words) {
    expect_refusal(run_comet(small("trace", more)), 2, words);
  };
  refuse({}, "nothing to write: --out FILE.json, --svg FILE.svg, or both");
  refuse({"--out", json, "--schedules", "reference"}, "reference records no work");
  refuse({"--out", json, "--schedules", "fast"}, "fast");
  refuse({"--out", json, "--ranks", "0,2"}, "--ranks: 2, from 0 to 1");
  refuse({"--out", json, "--ranks", "0,"}, "ranks with commas between");
  refuse({"--out", json, "--ranks", "x"}, "ranks with commas between");
  refuse({"--out", json, "--no-graphs"}, "--no-graphs: calls on cpu are never replayed");
  refuse({"--out", json, "--placement", "warps"}, "--placement: workers on cpu are threads");
  refuse({"--out", dir / "no" / "t.json"}, "No such file or directory");
  refuse({"--svg", "/dev/null"}, "not a regular file");
  refuse({"--svg", json, "--out", json}, "--svg: '" + json + "', a file other than that of --out");
  refuse({"--out", ""}, "--out: '', the name of a file");
  EXPECT_EQ(files_in(dir), 0U);
}

TEST(Bench, DrawsWhatItTimed) {
  const TempDir dir;
  const std::string svg = dir / "b.svg";
  const Outcome outcome = run_comet(small("bench", {"--groups", "1", "--rounds", "1", "--schedules",
                                                    "sequential,comet", "--svg", svg}));
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find(svg), std::string::npos);
  const std::string picture = read_text_file(svg, kMostBytes);
  EXPECT_EQ(XmlReader(picture).fault(), "");
  EXPECT_NE(picture.find(">comet<"), std::string::npos);
}

}  // namespace
}  // namespace comet::cli
