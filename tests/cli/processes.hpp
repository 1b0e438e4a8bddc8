// SPDX-License-Identifier: Apache-2.0
// Looks at processes that a test has started, as Linux shows them in /proc.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace comet::cli {

/// Empty if there is no such process, or it ends while this reads.
inline std::string proc_text(pid_t pid, const std::string& name) {
  std::ostringstream text;
  const std::string path = "/proc/" + std::to_string(pid) + "/" + name;
  text << std::ifstream(path, std::ios::binary).rdbuf();  // an iterator would throw
  return text.str();
}

/// State and parent of a process; ' ' of one that is not there.
struct ProcState {
  char state = ' ';
  pid_t parent = 0;
};

inline ProcState state_of(pid_t pid) {
  const std::string stat = proc_text(pid, "stat");
  const std::size_t name_end = stat.rfind(") ");  // the name may have any letters
  ProcState state;
  if (name_end == std::string::npos) return state;
  std::istringstream(stat.substr(name_end + 2)) >> state.state >> state.parent;
  return state;
}

/// Not ended, nor ended without having been waited for.
inline bool is_running(pid_t pid) {
  const char state = state_of(pid).state;
  return state != ' ' && state != 'Z';
}

/// The running processes that `pid` has started, by number, in which they are started.
inline std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> children;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const pid_t child = std::atoi(entry.path().filename().c_str());
    if (child > 0 && state_of(child).parent == pid && is_running(child)) children.push_back(child);
  }
  std::sort(children.begin(), children.end());
  return children;
}

/// Whether `condition` holds within the limit.
inline bool await(const std::function<bool()>& condition,
                  std::chrono::milliseconds limit = std::chrono::seconds(20)) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

/// Whether the process has the memory of `parts` ranks' parts of two collective allocations.
inline bool has_shared_memory(pid_t pid, int parts) {
  const std::string maps = proc_text(pid, "maps");
  int num_mapped = 0;
  for (std::size_t at = 0; (at = maps.find("/memfd:comet", at)) != std::string::npos; ++at) {
    ++num_mapped;
  }
  return num_mapped >= 2 * parts;
}

/// The ranks' processes, once `pid` has started so many and they have made their world and a
/// layer; empty if they do not. What else it has started is left out.
inline std::vector<pid_t> await_ranks(pid_t pid, int ranks) {
  std::vector<pid_t> found;
  const bool are_there = await([&] {
    found = children_of(pid);
    std::erase_if(found, [&](pid_t child) { return !has_shared_memory(child, ranks); });
    return static_cast<int>(found.size()) == ranks;
  });
  return are_there ? found : std::vector<pid_t>{};
}

}  // namespace comet::cli
