// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_progress.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "cli/output.hpp"

namespace comet::cli {
namespace {

constexpr int kBarWidth = 20;
constexpr double kFirstEstimate = 0.05;  // before that, the rest cannot be told from the start

}  // namespace

BenchMeter::BenchMeter(int num_cases)
    : num_cases_(num_cases),
      is_terminal_(::isatty(STDERR_FILENO) == 1 && !is_output_muted()),
      started_(Clock::now()) {}

BenchMeter::~BenchMeter() { clear(); }

void BenchMeter::next_case(std::string name) {
  name_ = std::move(name);
  ++case_;
}

void BenchMeter::show(const BenchProgress& progress) {
  if (!is_terminal_) return;
  const double done = (std::max(case_, 0) + progress.fraction) / std::max(num_cases_, 1);
  const double elapsed = std::chrono::duration<double>(Clock::now() - started_).count();
  const int filled = static_cast<int>(done * kBarWidth);
  std::string line = fmt::format("[{:#<{}}{:.<{}}] {:3.0f} %  {}: {}", "", filled, "",
                                 kBarWidth - filled, 100 * done, name_, progress.phase);
  if (done > kFirstEstimate) {
    line += fmt::format(", about {:.0f} s left", elapsed * (1 - done) / done);
  }
  std::fprintf(stderr, "\r\033[K%s", line.c_str());
  std::fflush(stderr);
  is_shown_ = true;
}

void BenchMeter::clear() {
  if (!is_shown_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  is_shown_ = false;
}

}  // namespace comet::cli
