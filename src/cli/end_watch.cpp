// SPDX-License-Identifier: Apache-2.0
#include "cli/end_watch.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "base/check.hpp"
#include "cli/exit_code.hpp"
#include "comm/world_view.hpp"

namespace comet::cli {
namespace {

// mpirun follows its SIGTERM with SIGKILL after one second.
constexpr int kLookMs = 5;  // between two looks for a failure of the world
constexpr int kLooksForCause = 20;
constexpr int kGraceMs = 400;  // for the process to end by itself

}  // namespace

EndWatch::EndWatch(std::string starter, int rank, std::function<void(const std::string&)> tell)
    : starter_(std::move(starter)), rank_(rank), tell_(std::move(tell)) {
  signals_ = ::signalfd(-1, &blocked_.set(), SFD_CLOEXEC);
  stop_ = ::eventfd(0, EFD_CLOEXEC);
  check(signals_ >= 0 && stop_ >= 0, ErrorCode::internal, "[world] no descriptors for signals: {}",
        std::strerror(errno));
  thread_ = std::thread([this] { watch(); });
}

EndWatch::~EndWatch() {
  const std::uint64_t one = 1;
  // It can only fail if the counter is full.
  [[maybe_unused]] const ssize_t written = ::write(stop_, &one, sizeof(one));
  thread_.join();
  ::close(signals_);
  ::close(stop_);
  if (!has_come_.load()) blocked_.release();
}

bool EndWatch::is_stopped(int milliseconds) const {
  pollfd stop{stop_, POLLIN, 0};
  return ::poll(&stop, 1, milliseconds) > 0;
}

// What the world has failed of, or that this process was ended.
std::string EndWatch::await_cause(int signal) {
  const std::string own = fmt::format("[world] rank {}: {} has ended this process (SIG{})", rank_,
                                      starter_, ::sigabbrev_np(signal));
  World* const world = world_.load();
  if (world == nullptr) return own + " while ranks were meeting";
  const WorldView& view = world->view();
  for (int look = 0; look < kLooksForCause && !view.failures->failed(); ++look) {
    if (is_stopped(kLookMs)) return {};
  }
  view.report_failure(ErrorCode::peer, own);
  try {
    view.failures->rethrow(view.rank);
  } catch (const Error& error) {
    return error.what();
  }
}

void EndWatch::watch() {
  pollfd watched[] = {{signals_, POLLIN, 0}, {stop_, POLLIN, 0}};
  while (::poll(watched, 2, -1) < 0 && errno == EINTR) {
  }
  signalfd_siginfo signal{};
  if (watched[1].revents != 0 || ::read(signals_, &signal, sizeof(signal)) != sizeof(signal)) {
    return;
  }
  has_come_.store(true);
  const std::string sentence = await_cause(static_cast<int>(signal.ssi_signo));
  if (sentence.empty() || is_stopped(kGraceMs)) return;
  tell_(sentence);
  ::_exit(kExitRankFailed);
}

}  // namespace comet::cli
