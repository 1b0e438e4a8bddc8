// SPDX-License-Identifier: Apache-2.0
// MpsControl: NVIDIA's program that is the daemon of CUDA's Multi-Process Service (MPS), by which
// processes compute on one GPU at once, and that asks a running daemon.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>

namespace comet::cli {

/// The variables by which processes find their daemon, and the daemon the place of its log.
inline constexpr const char* kMpsPipesVariable = "CUDA_MPS_PIPE_DIRECTORY";
inline constexpr const char* kMpsLogVariable = "CUDA_MPS_LOG_DIRECTORY";

class MpsControl {
 public:
  /// `program` is what find() returns; `folder`, of a daemon of our own, has its sockets in pipe/
  /// and its log.
  MpsControl(std::filesystem::path program, std::filesystem::path folder);

  /// nvidia-cuda-mps-control on PATH; empty if there is none.
  static std::filesystem::path find();

  const std::filesystem::path& program() const noexcept { return program_; }
  const std::filesystem::path& folder() const noexcept { return folder_; }
  std::filesystem::path pipes() const { return folder_ / "pipe"; }
  /// What the daemon and its servers have said.
  std::filesystem::path log() const { return folder_ / "daemon.log"; }

  /// Starts the daemon as a child of this thread, in a process group of its own, which terminals
  /// do not interrupt; its servers are of it too. It dies with this process. `gpus`: what it
  /// serves, as for CUDA_VISIBLE_DEVICES; its clients then count these from 0. Throws
  /// Error(capacity) if the system has no more processes.
  pid_t start_daemon(const std::string& gpus) const;

  /// Whether the daemon of the folder has obeyed `command`, a word of its own language, within the
  /// limit.
  bool ask(const char* command, std::chrono::milliseconds limit) const noexcept;

 private:
  std::filesystem::path program_;
  std::filesystem::path folder_;
};

/// Waits for a child to end: its status as waitpid gives it, or none at the limit.
std::optional<int> await_child(pid_t child, std::chrono::milliseconds limit);

}  // namespace comet::cli
