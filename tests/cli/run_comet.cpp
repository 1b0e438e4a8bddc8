// SPDX-License-Identifier: Apache-2.0
#include "cli/run_comet.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>
#include <stdexcept>

#include "io/temp_dir.hpp"

namespace comet::cli {
namespace {

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

// Of several values of a variable programs may take any.
void keep_first_values(std::vector<std::string>& variables) {
  std::set<std::string> names;
  std::erase_if(variables, [&](const std::string& variable) {
    return !names.insert(variable.substr(0, variable.find('='))).second;
  });
}

class SpawnActions {
 public:
  SpawnActions() { posix_spawn_file_actions_init(&actions_); }
  ~SpawnActions() { posix_spawn_file_actions_destroy(&actions_); }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;

  void open(int descriptor, const std::string& path, int flags) {
    posix_spawn_file_actions_addopen(&actions_, descriptor, path.c_str(), flags, 0600);
  }
  void close(int descriptor) { posix_spawn_file_actions_addclose(&actions_, descriptor); }
  const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_{};
};

int wait_for(pid_t child) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child) throw std::runtime_error("waitpid failed");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

Outcome run_comet(const std::vector<std::string>& arguments, const RunSettings& settings) {
  return run_program(comet_path(), arguments, settings);
}

std::string comet_path() { return COMET_BINARY; }

Outcome run_program(const std::string& program, const std::vector<std::string>& arguments,
                    const RunSettings& settings) {
  const TempDir dir;
  const std::string out = (dir / "out").string();
  const std::string err = (dir / "err").string();
  SpawnActions actions;
  actions.open(STDIN_FILENO, "/dev/null", O_RDONLY);
  actions.open(STDOUT_FILENO, settings.stdout_path.empty() ? out : settings.stdout_path,
               O_WRONLY | O_CREAT);
  if (settings.close_stdout) actions.close(STDOUT_FILENO);
  actions.open(STDERR_FILENO, err, O_WRONLY | O_CREAT);

  std::vector<std::string> words = {program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> variables = settings.variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    // The tests' own variables decide, not those of whoever runs the tests.
    if (!std::string(*entry).starts_with("COMET_")) variables.emplace_back(*entry);
  }
  keep_first_values(variables);
  pid_t child = 0;
  if (::posix_spawn(&child, program.c_str(), actions.get(), nullptr, pointers(words).data(),
                    pointers(variables).data()) != 0) {
    throw std::runtime_error("cannot start " + program);
  }
  if (settings.meanwhile) settings.meanwhile(child);
  const int code = wait_for(child);
  return {.code = code, .out = read(out), .err = read(err)};
}

void expect_refusal(const Outcome& outcome, int code, const std::string& words) {
  EXPECT_EQ(outcome.code, code) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_TRUE(outcome.err.starts_with("comet: [")) << outcome.err;
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  EXPECT_TRUE(outcome.err.ends_with('\n')) << outcome.err;
  EXPECT_NE(outcome.err.find(words), std::string::npos) << outcome.err << "lacks: " << words;
}

std::filesystem::path checkpoint(const std::string& name) {
  return std::filesystem::path(COMET_CHECKPOINTS) / name;
}

}  // namespace comet::cli
