// SPDX-License-Identifier: Apache-2.0
// comet launch --gpus: the MPS that it starts and ends, by a stand-in for NVIDIA's.
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "cli/processes.hpp"
#include "cli/run_comet.hpp"
#include "io/temp_dir.hpp"

namespace comet::cli {
namespace {

using Arguments = std::vector<std::string>;

const Arguments kShortOnAGpu = {"launch", "--ranks", "2",        "--gpus", "1",
                                "--",     "check",   "--random", "1"};
const Arguments kEndlessOnAGpu = {"launch", "--ranks", "2",        "--gpus",   "1",
                                  "--",     "check",   "--random", "100000000"};

// The stand-in on a PATH of its own, and a folder of its own for temporary files.
class FakeMps {
 public:
  explicit FakeMps(const std::string& fault = {}) {
    std::filesystem::create_directory(dir_ / "bin");
    std::filesystem::create_symlink(COMET_FAKE_MPS, program());
    variables_ = {"PATH=" + (dir_ / "bin").string() + ":" + std::getenv("PATH"),
                  "TMPDIR=" + dir_.path().string(),
                  "CUDA_MPS_PIPE_DIRECTORY=",
                  "CUDA_VISIBLE_DEVICES=3",
                  "FAKE_MPS_RECORD=" + (dir_ / "record").string(),
                  "FAKE_MPS=" + fault};
  }

  std::filesystem::path program() const { return dir_ / "bin" / "nvidia-cuda-mps-control"; }

  Outcome run(const Arguments& arguments, const Arguments& variables = {},
              const std::function<void(pid_t)>& meanwhile = {}) const {
    return run_program(arguments.front() == "launch" ? comet_path() : program().string(), arguments,
                       {.variables = with(variables), .meanwhile = meanwhile});
  }

  // What the stand-in has done: "daemon <pid> <gpus>", "server <pid>", "quit".
  std::vector<std::string> record() const {
    std::vector<std::string> lines;
    std::ifstream file(dir_ / "record");
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
  }

  int num(const std::string& word) const {
    const std::vector<std::string> lines = record();
    return static_cast<int>(std::count_if(
        lines.begin(), lines.end(), [&](const auto& line) { return line.starts_with(word); }));
  }

  bool is_any_running() const {
    for (const std::string& line : record()) {
      std::istringstream words(line);
      std::string what;
      pid_t pid = 0;
      if (words >> what >> pid && is_running(pid)) return true;
    }
    return false;
  }

  std::vector<std::filesystem::path> folders() const {
    std::vector<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::directory_iterator(dir_.path())) {
      if (entry.path().filename().string().starts_with("comet-mps-")) found.push_back(entry.path());
    }
    return found;
  }

  // That so many daemons have come and gone, with all that they left.
  void expect_gone(int daemons) const {
    EXPECT_EQ(num("daemon"), daemons);
    EXPECT_TRUE(await([&] { return !is_any_running(); }, std::chrono::seconds(2)));
    EXPECT_TRUE(folders().empty());
  }

 private:
  Arguments with(Arguments more) const {
    more.insert(more.end(), variables_.begin(), variables_.end());
    return more;
  }

  TempDir dir_;
  Arguments variables_;
};

TEST(LaunchGpus, RanksThatShareAGpuHaveAnMpsThatEndsAfterThem) {
  const FakeMps mps;
  const Outcome outcome =
      mps.run({"launch", "--ranks", "3", "--gpus", "2", "--", "check", "--random", "1"},
              {"CUDA_VISIBLE_DEVICES=5,GPU-b,7"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  EXPECT_TRUE(mps.record().at(0).ends_with(" 5,GPU-b")) << mps.record().at(0);
  EXPECT_EQ(mps.num("quit"), 1);
  mps.expect_gone(1);
}

TEST(LaunchGpus, ARankPerGpuNeedsNoMps) {
  const FakeMps mps;
  const Outcome outcome =
      mps.run({"launch", "--ranks", "2", "--gpus", "4", "--", "check", "--random", "1"},
              {"CUDA_VISIBLE_DEVICES=0,1", "PATH=/nowhere"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  mps.expect_gone(0);
}

TEST(LaunchGpus, TheUsersOwnMpsIsUsedAndLeftAlone) {
  const FakeMps mps;
  const TempDir own;
  const std::string variable = "CUDA_MPS_PIPE_DIRECTORY=" + own.path().string();
  expect_refusal(mps.run(kShortOnAGpu, {variable}), 2, "no MPS listens there");
  own.write("control", "");
  EXPECT_EQ(mps.run(kShortOnAGpu, {variable}).code, 0);
  EXPECT_TRUE(std::filesystem::exists(own / "control"));
  mps.expect_gone(0);
}

TEST(LaunchGpus, MpsEndsWhenARankIsKilled) {
  const FakeMps mps;
  const Outcome outcome = mps.run(kEndlessOnAGpu, {}, [&](pid_t launcher) {
    const std::vector<pid_t> ranks = await_ranks(launcher, 2);
    ASSERT_EQ(ranks.size(), 2);
    ::kill(ranks.back(), SIGKILL);
  });
  expect_refusal(outcome, 3, "rank 1 is gone");
  mps.expect_gone(1);
}

TEST(LaunchGpus, MpsEndsWhenASignalEndsTheLaunch) {
  const FakeMps mps;
  const Outcome outcome = mps.run(kEndlessOnAGpu, {}, [&](pid_t launcher) {
    ASSERT_FALSE(await_ranks(launcher, 2).empty());
    ::kill(launcher, SIGTERM);
  });
  EXPECT_EQ(outcome.code, 128 + SIGTERM);
  mps.expect_gone(1);
}

TEST(LaunchGpus, WhatAKilledLaunchLeavesIsGoneAfterTheNext) {
  const FakeMps mps;
  const Outcome killed = mps.run(kEndlessOnAGpu, {}, [&](pid_t launcher) {
    ASSERT_FALSE(await_ranks(launcher, 2).empty());
    ::kill(launcher, SIGKILL);
  });
  EXPECT_EQ(killed.code, 128 + SIGKILL);
  EXPECT_TRUE(await([&] { return !mps.is_any_running(); }, std::chrono::seconds(2)));
  ASSERT_EQ(mps.folders().size(), 1);
  // A daemon that has outlived it.
  const std::filesystem::path pipes = mps.folders().front() / "pipe";
  std::filesystem::remove_all(pipes);
  std::filesystem::create_directory(pipes);
  const Outcome left = mps.run({"-f"}, {"CUDA_MPS_PIPE_DIRECTORY=" + pipes.string()}, [&](pid_t) {
    EXPECT_TRUE(await([&] { return mps.num("server") == 2; }));
    EXPECT_TRUE(
        await([&] { return std::filesystem::exists(pipes / "nvidia-cuda-mps-control.pid"); }));
    EXPECT_EQ(mps.run(kShortOnAGpu).code, 0);
  });
  EXPECT_EQ(left.code, 0);  // it was told to quit
  EXPECT_EQ(mps.num("quit"), 2);
  mps.expect_gone(3);
}

TEST(LaunchGpus, ARunningLaunchIsLeftAlone) {
  const FakeMps mps;
  const Outcome outcome = mps.run(kEndlessOnAGpu, {}, [&](pid_t launcher) {
    ASSERT_FALSE(await_ranks(launcher, 2).empty());
    EXPECT_EQ(mps.run(kShortOnAGpu).code, 0);
    EXPECT_EQ(mps.folders().size(), 1);
    EXPECT_TRUE(mps.is_any_running());
    ::kill(launcher, SIGTERM);
  });
  EXPECT_EQ(outcome.code, 128 + SIGTERM);
  mps.expect_gone(2);
}

TEST(LaunchGpus, AnMpsThatDoesNotQuitIsKilled) {
  const FakeMps mps("deaf");
  const Outcome outcome = mps.run(kShortOnAGpu);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(mps.num("quit"), 1);
  mps.expect_gone(1);
}

TEST(LaunchGpus, AnMpsThatDoesNotStartIsSaid) {
  const FakeMps failing("fail");
  expect_refusal(failing.run(kShortOnAGpu), 2, "MPS did not start: Cannot bind");
  failing.expect_gone(1);
  const FakeMps hanging("hang");
  expect_refusal(hanging.run(kShortOnAGpu, {"COMET_TIMEOUT_MS=400"}), 2,
                 "MPS did not start within 1000 ms: it has said nothing");
  hanging.expect_gone(1);
}

TEST(LaunchGpus, WhatIsMissingIsSaid) {
  const FakeMps mps;
  expect_refusal(mps.run(kShortOnAGpu, {"PATH=/nowhere"}), 2,
                 "nvidia-cuda-mps-control is not on PATH");
  expect_refusal(mps.run(kShortOnAGpu, {"CUDA_VISIBLE_DEVICES="}), 2,
                 "CUDA_VISIBLE_DEVICES='' lists 0");
  expect_refusal(mps.run(kShortOnAGpu, {"TMPDIR=/nowhere"}), 2, "TMPDIR");
  expect_refusal(mps.run({"launch", "--ranks", "2", "--gpus", "0", "--", "check"}), 2,
                 "--gpus: '0'");
  mps.expect_gone(0);
}

}  // namespace
}  // namespace comet::cli
