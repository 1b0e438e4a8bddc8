// SPDX-License-Identifier: Apache-2.0
// Ranks as forked processes that share memory mapped before the fork: worlds of processes without
// MPI.
#pragma once

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "comm/process/process_group.hpp"
#include "comm/process/process_world.hpp"

namespace comet {

/// Where forked ranks tell each other how to find the rest; mapped before the fork.
class ForkedArena {
 public:
  ForkedArena()
      : memory_(static_cast<std::byte*>(
            ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
    if (memory_ == MAP_FAILED) throw std::runtime_error("no shared memory");
    new (memory_) std::atomic<std::uint64_t>(0);
    new (memory_ + 8) std::atomic<std::uint64_t>(0);
  }
  ~ForkedArena() { ::munmap(memory_, kBytes); }
  ForkedArena(const ForkedArena&) = delete;
  ForkedArena& operator=(const ForkedArena&) = delete;

  /// Ranks that have come to a gathering, in all.
  std::atomic<std::uint64_t>& arrivals() const noexcept { return word(0); }
  /// For tests: counts whatever bodies say.
  std::atomic<std::uint64_t>& count() const noexcept { return word(8); }
  std::byte* slots() const noexcept { return memory_ + 64; }

 private:
  static constexpr std::size_t kBytes = 65536;

  std::atomic<std::uint64_t>& word(std::size_t at) const noexcept {
    return *std::launder(reinterpret_cast<std::atomic<std::uint64_t>*>(memory_ + at));
  }

  std::byte* memory_;
};

/// One rank's end.
class ForkedGroup final : public ProcessGroup {
 public:
  /// Ranks with different `host` behave as if they were on different hosts.
  ForkedGroup(const ForkedArena& arena, int rank, int size, std::string host)
      : arena_(arena), rank_(rank), size_(size), host_(std::move(host)) {}

  std::string_view kind() const noexcept override { return "forked"; }
  int rank() const noexcept override { return rank_; }
  const ForkedArena& arena() const noexcept { return arena_; }
  int size() const noexcept override { return size_; }
  std::string_view host() const noexcept override { return host_; }

  // Through the arena: a slot per rank and turn.
  void all_gather(const void* in, void* out, std::size_t bytes) override {
    std::byte* const slots =
        arena_.slots() + num_gathers_ % 2 * kSlotBytes * static_cast<std::size_t>(size_);
    ++num_gathers_;
    std::memcpy(slots + static_cast<std::size_t>(rank_) * kSlotBytes, in, bytes);
    arena_.arrivals().fetch_add(1);
    const std::uint64_t wanted = num_gathers_ * static_cast<std::uint64_t>(size_);
    while (arena_.arrivals().load() < wanted) {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    for (int rank = 0; rank < size_; ++rank) {
      std::memcpy(static_cast<std::byte*>(out) + static_cast<std::size_t>(rank) * bytes,
                  slots + static_cast<std::size_t>(rank) * kSlotBytes, bytes);
    }
  }

  void leave() noexcept override {}

 private:
  static constexpr std::size_t kSlotBytes = 512;

  const ForkedArena& arena_;
  int rank_;
  int size_;
  std::string host_;
  std::uint64_t num_gathers_ = 0;
};

/// How a forked rank ended.
struct ForkedEnd {
  int signal = 0;      ///< Which ended it; 0: it left by itself.
  std::string text;    ///< What its body returned, or what it threw after "threw: ".
  double seconds = 0;  ///< From the fork on.
};

/// Which host each rank shall seem to be on: "0" for the ranks below the first number, "1" for
/// those below the second, and so on; none means one host.
inline std::string host_of(const std::vector<int>& host_ends, int rank) {
  std::size_t host = 0;
  while (host < host_ends.size() && rank >= host_ends[host]) ++host;
  return host_ends.empty() ? "" : std::to_string(host);
}

/// Runs `body` in `size` forked processes and waits for all, killing them after `limit`.
/// `meanwhile` runs in the parent with their process numbers and arena. Nothing of GoogleTest may
/// be used in a body.
inline std::vector<ForkedEnd> run_forked(
    int size, const std::function<std::string(std::unique_ptr<ForkedGroup>)>& body,
    const std::function<void(const std::vector<pid_t>&, const ForkedArena&)>& meanwhile = {},
    std::chrono::seconds limit = std::chrono::seconds(60), const std::vector<int>& host_ends = {}) {
  const ForkedArena arena;
  const auto begin = std::chrono::steady_clock::now();
  std::vector<pid_t> pids;
  std::vector<int> pipes;
  for (int rank = 0; rank < size; ++rank) {
    int ends[2] = {};
    if (::pipe(ends) != 0) throw std::runtime_error("no pipe");
    const pid_t pid = ::fork();
    if (pid < 0) throw std::runtime_error("no process");
    if (pid == 0) {
      std::string text;
      try {
        text = body(std::make_unique<ForkedGroup>(arena, rank, size, host_of(host_ends, rank)));
      } catch (const std::exception& error) {
        text = std::string("threw: ") + error.what();
      }
      if (text.size() > 60000) text.resize(60000);  // a pipe takes 64 KiB without a reader
      [[maybe_unused]] const ssize_t written = ::write(ends[1], text.data(), text.size());
      ::_exit(0);
    }
    ::close(ends[1]);
    pids.push_back(pid);
    pipes.push_back(ends[0]);
  }
  if (meanwhile) meanwhile(pids, arena);
  std::vector<ForkedEnd> results(static_cast<std::size_t>(size));
  std::vector<bool> has_ended(static_cast<std::size_t>(size), false);
  for (int left = size; left > 0;) {
    if (std::chrono::steady_clock::now() - begin > limit) {
      for (const pid_t pid : pids) ::kill(pid, SIGKILL);
    }
    for (std::size_t i = 0; i < pids.size(); ++i) {
      int status = 0;
      if (has_ended[i] || ::waitpid(pids[i], &status, WNOHANG) != pids[i]) continue;
      has_ended[i] = true;
      --left;
      if (WIFSIGNALED(status)) results[i].signal = WTERMSIG(status);
      results[i].seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      char buffer[4096];
      for (ssize_t count = 0; (count = ::read(pipes[i], buffer, sizeof(buffer))) > 0;) {
        results[i].text.append(buffer, static_cast<std::size_t>(count));
      }
      ::close(pipes[i]);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return results;
}

}  // namespace comet
