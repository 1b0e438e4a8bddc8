// SPDX-License-Identifier: Apache-2.0
#include "cli/interrupt.hpp"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

namespace comet::cli {
namespace {

std::atomic<bool> g_is_interrupted{false};
std::atomic<const char*> g_promise{""};

void remember_interrupt(int /*signal*/) {
  g_is_interrupted = true;
  const char* const promise = g_promise;
  // A message that cannot be written changes nothing.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, promise, std::strlen(promise));
}

}  // namespace

Interrupt::Interrupt(const char* promise) {
  g_promise = promise;
  g_is_interrupted = false;
  struct sigaction action = {};
  action.sa_handler = remember_interrupt;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  ::sigaction(SIGINT, &action, nullptr);
}

Interrupt::~Interrupt() {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  ::sigaction(SIGINT, &action, nullptr);
}

bool Interrupt::is_requested() const noexcept { return g_is_interrupted; }

}  // namespace comet::cli
