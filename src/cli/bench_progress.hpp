// SPDX-License-Identifier: Apache-2.0
// How far a benchmark is and how long it will take, on standard error where that is a terminal.
#pragma once

#include <chrono>
#include <string>

#include "measure/bench_case.hpp"

namespace comet::cli {

class BenchMeter {
 public:
  /// For `num_cases` cases, shown as one whole.
  explicit BenchMeter(int num_cases);
  ~BenchMeter();
  BenchMeter(const BenchMeter&) = delete;
  BenchMeter& operator=(const BenchMeter&) = delete;

  /// The next case begins.
  void next_case(std::string name);
  void show(const BenchProgress& progress);
  /// Removes the line, before something is printed.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;

  int num_cases_;
  int case_ = -1;
  std::string name_;
  bool is_terminal_;
  bool is_shown_ = false;
  Clock::time_point started_;
};

}  // namespace comet::cli
