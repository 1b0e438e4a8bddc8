// SPDX-License-Identifier: Apache-2.0
// LocalWorld: ranks that are threads of one process and share one LocalState.
#pragma once

#include <memory>
#include <vector>

#include "comet/world.hpp"
#include "comm/local/recovery.hpp"
#include "comm/local/rendezvous.hpp"
#include "comm/local/symmetric_memory.hpp"
#include "comm/world_view.hpp"

namespace comet {

/// What the ranks share; lives until the last handle is gone, so a handle may go at any time.
struct LocalState {
  /// `options` are complete: checked, and with a timeout.
  LocalState(int size, const LocalWorldOptions& options);

  /// Sets the rate of the emulated link, or none, and forgets what was booked.
  void set_pace(const LinkSpec& spec);

  std::unique_ptr<DeviceRanks> devices;      // null on cpu
  std::unique_ptr<Doorbell[]> doorbells;     // [size]
  std::vector<Doorbell*> doorbell_pointers;  // [size]
  PacedLink link;
  FailureBoard failures;
  ProgressBoard progress;
  Rendezvous rendezvous;
  Recovery recovery;
  SymmetricMemory memory;
};

class LocalWorld final : public World {
 public:
  /// `options` are complete: checked, and with a timeout.
  LocalWorld(std::shared_ptr<LocalState> state, int rank, const LocalWorldOptions& options);

  int rank() const noexcept override { return view_.rank; }
  int size() const noexcept override { return view_.size; }
  std::string_view kind() const noexcept override { return "local"; }
  SymmetricBuffer allocate(std::size_t bytes) override;
  void barrier() override;
  void all_gather(const void* in, void* out, std::size_t bytes) override;
  Backend backend() const noexcept override { return backend_; }
  int device() const noexcept override;
  void fork_from(void* stream) override;
  void join_to(void* stream) override;
  void* stream() const noexcept override;
  LinkSpec link() const override { return link_; }
  void set_link(const LinkSpec& link) override;
  void recover() override;
  std::chrono::milliseconds timeout() const noexcept override { return timeout_; }
  WorldView& view() noexcept override { return view_; }

 private:
  std::byte* map(std::size_t bytes);

  std::shared_ptr<LocalState> state_;
  Backend backend_;
  LinkSpec link_;
  std::chrono::milliseconds timeout_;
  WorldView view_;
};

}  // namespace comet
