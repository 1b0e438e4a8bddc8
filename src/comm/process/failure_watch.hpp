// SPDX-License-Identifier: Apache-2.0
// FailureWatch: how a failure in one process reaches the others, and how a process that is gone
// becomes a failure.
#pragma once

#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "comm/process/control_block.hpp"
#include "comm/world_view.hpp"

namespace comet {

/// A thread that keeps this process's FailureBoard and the record in shared memory equal, looking
/// every few milliseconds, and that watches the other processes.
class FailureWatch {
 public:
  /// `view` belongs to this process and outlives the watch.
  FailureWatch(const ControlBlock& control, const WorldView& view);
  ~FailureWatch();
  FailureWatch(const FailureWatch&) = delete;
  FailureWatch& operator=(const FailureWatch&) = delete;

  /// Returns once this process and the record say the same, but for what happens meanwhile.
  void settle();
  /// Forgets the failure in this process. Only in a recovery, after the record was cleared.
  void clear();
  /// Forgets the record. Rank 0 in a recovery, while all ranks wait for it.
  void clear_record();

 private:
  void watch();
  void exchange();
  void look_for_dead();
  void report_end(int rank);
  void publish(int rank, ErrorCode code, const std::string& sentence);

  const ControlBlock& control_;
  const WorldView& view_;
  std::mutex mutex_;        // between the thread and a recovery
  bool is_equal_ = false;   // this process's failure is the record's
  std::vector<int> peers_;  // [size] pidfd, or -1: oneself, gone, or not to be watched
  int stop_ = -1;           // eventfd
  std::thread thread_;
};

}  // namespace comet
