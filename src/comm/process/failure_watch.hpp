// SPDX-License-Identifier: Apache-2.0
// FailureWatch: how a failure in one process reaches the others, and how a process that is gone
// becomes a failure.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "comm/process/control_block.hpp"
#include "comm/process/remote_control.hpp"
#include "comm/world_view.hpp"

namespace comet {

/// A thread that keeps this process's FailureBoard and the record in shared memory equal, looking
/// every few milliseconds, and that watches the other processes.
class FailureWatch {
 public:
  /// `view` belongs to this process and outlives the watch. `remote` as for ProcessRendezvous.
  FailureWatch(const ControlBlock& control, const WorldView& view, RemoteControl* remote);
  ~FailureWatch();
  FailureWatch(const FailureWatch&) = delete;
  FailureWatch& operator=(const FailureWatch&) = delete;

  /// Returns once this process and the record say the same, but for what happens meanwhile.
  void settle();
  /// Forgets the failure in this process, after recovery number `recoveries`.
  void clear(std::uint32_t recoveries);
  /// What a rank of another host says: a failure of generation `generation`. Any thread.
  void hear(std::uint32_t generation, int rank, ErrorCode code, const std::string& sentence);
  /// The rank can no longer be reached; `how` as in "its process 123 has ended". Any thread.
  void report_gone(int rank, const std::string& how);

 private:
  void watch();
  void exchange();
  void look_for_dead();
  std::uint32_t generation() const noexcept { return generation_.load(std::memory_order_acquire); }
  void publish(int rank, ErrorCode code, const std::string& sentence);
  bool write_record(std::uint32_t generation, int rank, ErrorCode code,
                    const std::string& sentence);

  const ControlBlock& control_;
  const WorldView& view_;
  RemoteControl* remote_;
  std::atomic<std::uint32_t> generation_{1};  // of this process: 1 + recoveries that it has left
  std::mutex mutex_;                          // between the thread and a recovery
  bool is_equal_ = false;                     // this process's failure is the record's
  std::vector<int> peers_;  // [size] pidfd, or -1: oneself, gone, or not to be watched
  int stop_ = -1;           // eventfd
  std::thread thread_;
};

}  // namespace comet
