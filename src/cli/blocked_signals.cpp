// SPDX-License-Identifier: Apache-2.0
#include "cli/blocked_signals.hpp"

namespace comet::cli {

BlockedSignals::BlockedSignals(std::initializer_list<int> signals) noexcept {
  ::sigemptyset(&set_);
  for (const int signal : signals) {
    struct sigaction action {};
    ::sigaction(signal, nullptr, &action);
    if (action.sa_handler != SIG_IGN) ::sigaddset(&set_, signal);
  }
  ::pthread_sigmask(SIG_BLOCK, &set_, &before_);
}

void BlockedSignals::release() const noexcept { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

}  // namespace comet::cli
