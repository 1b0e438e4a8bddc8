// SPDX-License-Identifier: Apache-2.0
// Help, version, and command lines that are refused: exit code 2 and one line.
#include <gtest/gtest.h>

#include <ostream>

#include "cli/golden.hpp"
#include "cli/run_comet.hpp"
#include "comet/version.hpp"

namespace comet::cli {
namespace {

TEST(Help, NamesCommandsAndExitCodes) {
  const Outcome outcome = run_comet({"--help"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.err, "");
  for (const char* words :
       {"\n  info ", "\n  plan ", "\n  run ", "\n  check ", "\n  bench ", "\n  trace ",
        "Exit codes:\n", "\n  1  a check failed", "\n  2  bad command line or input",
        "\n  3  a rank failed", "\n  4  a fault of Comet itself"}) {
    EXPECT_NE(outcome.out.find(words), std::string::npos) << words << "\n" << outcome.out;
  }
}

TEST(Help, OfEverySubcommandIsAsReviewed) {
  for (const std::string name : {"info", "plan", "run", "check"}) {
    const Outcome outcome = run_comet({name, "--help"});
    EXPECT_EQ(outcome.code, 0);
    EXPECT_EQ(outcome.err, "");
    EXPECT_NE(outcome.out.find("Examples:\n  comet " + name), std::string::npos) << name;
    expect_golden("help_" + name + ".txt", outcome.out);
  }
}

TEST(Help, FitsTheLine) {
  for (const std::string name : {"info", "plan", "run", "check"}) {
    const std::string text = run_comet({name, "--help"}).out;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = text.find('\n', begin);
      ASSERT_NE(end, std::string::npos);
      EXPECT_LE(end - begin, 100U) << text.substr(begin, end - begin);
      begin = end + 1;
    }
  }
}

TEST(Version, IsOneLine) {
  const Outcome outcome = run_comet({"--version"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, "comet " COMET_VERSION_STRING "\n");
}

struct BadLine {
  std::vector<std::string> arguments;
  const char* words;
};

void PrintTo(const BadLine& line, std::ostream* out) {
  *out << "comet";
  for (const std::string& word : line.arguments) *out << " '" << word << "'";
}

class Refused : public testing::TestWithParam<BadLine> {};

TEST_P(Refused, WithCodeTwoAndOneLine) {
  expect_refusal(run_comet(GetParam().arguments), 2, GetParam().words);
}

std::vector<BadLine> bad_lines() {
  const auto plan = [](std::vector<std::string> more) {
    more.insert(more.begin(), {"plan", "--model", "mixtral"});
    return more;
  };
  return {
      {{}, "a subcommand is missing"},
      {{"paln"}, "unknown subcommand 'paln': one of info, plan, run, check"},
      {{"--verbose"}, "unexpected argument '--verbose'"},
      {{"info", "--jason"}, "unexpected argument '--jason': see comet info --help"},
      {{"info", "now"}, "unexpected argument 'now'"},
      {{"info", "plan"}, "unexpected argument 'plan'"},
      {{"run"}, "--checkpoint is required"},
      {{"run", "--checkpoint", "x"}, "--tokens is required"},
      {{"plan"}, "no layer given"},
      {{"plan", "--experts", "8", "--topk", "2", "--hidden", "64"}, "no layer given"},
      {{"plan", "--model", "gpt-2"}, "unknown name 'gpt-2': one of mixtral-8x7b"},
      {plan({"--tokens"}), "--tokens"},
      {plan({"--tokens", "x"}), "--tokens: 'x', a whole number from 0"},
      {plan({"--tokens", ""}), "--tokens: ''"},
      {plan({"--tokens", "1e3"}), "--tokens: '1e3'"},
      {plan({"--tokens", "0x10"}), "--tokens: '0x10'"},
      {plan({"--tokens", " 5"}), "--tokens: ' 5'"},
      {plan({"--tokens=-1"}), "--tokens: '-1'"},
      {plan({"--tokens", "99999999999999999999"}), "--tokens: '99999999999999999999'"},
      {plan({"--tokens", "1", "--tokens", "2"}),
       "--tokens is given more than once: see comet plan"},
      {plan({"--seed=-1"}), "--seed: '-1'"},
      {plan({"--seed", "18446744073709551616"}), "--seed: '18446744073709551616'"},
      {plan({"--ep", "0"}), "--ep: '0'"},
      {plan({"--tp", "3"}), "intermediate"},
      {plan({"--hidden", "12"}), "hidden"},
      {plan({"--groups", "0"}), "--groups: '0'"},
      {plan({"--dtype", "f64"}), "unknown name 'f64'"},
      {plan({"--routing", "random"}), "unknown synthetic routing 'random'"},
      {plan({"--routing", "std:5"}), "std: 5, allowed at most"},
      {plan({"--world", "local:0"}), "unknown world 'local:0'"},
      {plan({"--world", "local:"}), "unknown world 'local:'"},
      {plan({"--world", "local:4x"}), "unknown world 'local:4x'"},
      {plan({"--world", "cluster"}), "unknown world 'cluster'"},
      {plan({"--world", "mpi:4"}), "unknown world 'mpi:4': mpi alone"},
      {plan({"--world", "process"}), "such ranks are started by 'comet launch"},
      {plan({"--world", "nvshmem:8"}), "nvshmem alone"},
      {plan({"--world", "nvshmem"}), "start them by 'comet launch"},
      {plan({"--world", "local:4", "--ep", "3"}), "ep * tp must be the number of ranks"},
      {plan({"--world", "local:4", "--ep", "2", "--tp", "1"}), "4 ranks do not fit --ep 2 --tp 1"},
      {plan({"--world", "local:2", "--tp", "4"}), "2 ranks do not fit"},
      {plan({"--ep", "1000", "--tp", "2"}), "2000 ranks, from 1 to 1024"},
      {plan({"--ep", "2", "--rank", "2"}), "--rank 2, allowed 0 to 1"},
      {{"check", "--random", "0"}, "--random: '0'"},
      {{"check", "--random", "5", "--index", "3"}, "excludes"},
      {{"check", "--schedules", "comet,fast"}, "unknown name 'fast'"},
      {{"check", "--schedules", ""}, "unknown name ''"},
      {{"check", "--world", "process"}, "such ranks are started by 'comet launch"},
      {{"check", "--max-failures", "0"}, "--max-failures: '0'"},
      {{"check", "--json=rows.json"}, "--json takes no value: see comet check --help"},
      {{"bench", "--model", "mixtral", "--groups", " 2"}, "--groups: ' 2', auto or a whole number"},
      {{"bench", "--model", "mixtral", "--n-c-combine", "+1"}, "--n-c-combine: '+1', auto or a"},
  };
}

INSTANTIATE_TEST_SUITE_P(BadLines, Refused, testing::ValuesIn(bad_lines()),
                         [](const auto& line) { return "Line" + std::to_string(line.index); });

TEST(Environment, BadValueIsRefusedWithItsName) {
  expect_refusal(run_comet({"info"}, {.variables = {"COMET_TIMEOUT_MS=soon"}}), 2,
                 "COMET_TIMEOUT_MS='soon'");
}

}  // namespace
}  // namespace comet::cli
