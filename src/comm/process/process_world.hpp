// SPDX-License-Identifier: Apache-2.0
// ProcessWorld: ranks that are processes. Those of one host share memory, others have connections.
// Layers run on the CPU, or on a GPU a process or a part of one.
#pragma once

#include <chrono>
#include <memory>

#include "comet/world.hpp"
#include "comm/process/control_block.hpp"
#include "comm/process/failure_watch.hpp"
#include "comm/process/hosts.hpp"
#include "comm/process/process_group.hpp"
#include "comm/process/process_recovery.hpp"
#include "comm/process/process_rendezvous.hpp"
#include "comm/process/remote_control.hpp"
#include "comm/world_view.hpp"

namespace comet {

class ProcessWorld final : public World {
 public:
  /// Collective. `backend` must be the same on all ranks.
  ProcessWorld(std::unique_ptr<ProcessGroup> group, std::chrono::milliseconds timeout,
               Backend backend = Backend::cpu);
  /// Not collective on cpu: what others share with this rank stays as long as they have it. On cuda
  /// it waits for the others to give back memory together, and if they do not come the memory
  /// stays. While an exception passes it fails the world, so that nobody waits for this rank.
  ~ProcessWorld() override;

  int rank() const noexcept override { return view_.rank; }
  int size() const noexcept override { return view_.size; }
  std::string_view kind() const noexcept override;
  Backend backend() const noexcept override { return device_ ? Backend::cuda : Backend::cpu; }
  int num_hosts() const noexcept override { return hosts_.num(); }
  SymmetricBuffer allocate(std::size_t bytes) override;
  void barrier() override;
  void all_gather(const void* in, void* out, std::size_t bytes) override;
  LinkSpec link() const override { return spec_; }
  /// Native only on cpu: an emulated link's clocks would be each process's own. On cuda the clocks
  /// lie in memory that all reach, if they do.
  void set_link(const LinkSpec& link) override;
  void recover() override;
  std::chrono::milliseconds timeout() const noexcept override { return timeout_; }
  int device() const noexcept override;
  void* stream() const noexcept override;
  void fork_from(void* stream) override;
  void join_to(void* stream) override;
  WorldView& view() noexcept override { return view_; }

 private:
  void make_device();
  SymmetricBuffer allocate_host(std::size_t bytes);
  SymmetricBuffer allocate_device(std::size_t bytes);
  void check_had(std::uint64_t meeting, std::size_t bytes) const;
  bool release_device() noexcept;
  void check_equal_bytes(std::uint64_t meeting, std::string_view call) const;

  int num_exceptions_;  // on their way when the world was made
  std::unique_ptr<ProcessGroup> group_;
  std::vector<std::int32_t> pids_;  // [size] process numbers
  std::chrono::milliseconds timeout_;
  Hosts hosts_;
  ControlBlock control_;
  std::vector<SharedMemory> memory_;  // of all symmetric buffers, all ranks' parts or mirrors
  std::vector<Doorbell*> doorbells_;  // [size]
  PacedLink link_;
  FailureBoard failures_;
  ProgressBoard progress_;
  WorldView view_;
  LinkSpec spec_;
  std::unique_ptr<ProcessDevice> device_;  // cuda only
  // Null if all ranks are of one host.
  std::unique_ptr<Network> network_;
  std::unique_ptr<RemoteControl> remote_;
  ProcessRendezvous rendezvous_;
  ProcessRecovery recovery_;
  std::unique_ptr<FailureWatch> watch_;
};

}  // namespace comet
