// SPDX-License-Identifier: Apache-2.0
// MpsDaemon: an MPS of our own for the ranks of one launch, so that nobody else on the machine
// notices.
#pragma once

#include <sys/types.h>

#include <string>

#include "cli/mps_control.hpp"

namespace comet::cli {

class MpsDaemon {
 public:
  /// Starts a daemon that serves `gpus`, as for CUDA_VISIBLE_DEVICES, and waits until it answers.
  /// Processes that this one starts from now on find it. Also ends the daemons and removes the
  /// folders of launches that were killed. Throws Error(unsupported) if the machine has no MPS, or
  /// it does not come up.
  explicit MpsDaemon(const std::string& gpus);
  /// Ends daemon and servers, whose clients have ended, and removes the folder. Takes at most two
  /// seconds.
  ~MpsDaemon();
  MpsDaemon(const MpsDaemon&) = delete;
  MpsDaemon& operator=(const MpsDaemon&) = delete;

 private:
  void start(const std::string& gpus);
  void end() noexcept;
  std::string end_of_log() const;

  MpsControl control_;
  pid_t pid_ = 0;  // 0: not started, or it has ended by itself
};

}  // namespace comet::cli
