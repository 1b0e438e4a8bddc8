// SPDX-License-Identifier: Apache-2.0
// A progress line on standard error, only where that is a terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace comet::cli {

class Progress {
 public:
  /// "<what>: <done> of <total> <unit>".
  Progress(std::string what, std::int64_t total, std::string unit);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Shows `done`, at most ten times a second.
  void update(std::int64_t done);
  /// Removes the line.
  void clear();

 private:
  std::string what_, unit_;
  std::int64_t total_;
  bool is_terminal_;
  bool is_shown_ = false;
  std::chrono::steady_clock::time_point next_;
};

}  // namespace comet::cli
