// SPDX-License-Identifier: Apache-2.0
#include "base/check.hpp"
#include "base/env.hpp"
#include "comet/process_world.hpp"
#include "comm/process/process_world.hpp"

namespace comet {
namespace {

class StartedGroup final : public ProcessGroup {
 public:
  explicit StartedGroup(const ProcessStart& start) : start_(start) {}

  std::string_view kind() const noexcept override { return start_.kind; }
  int rank() const noexcept override { return start_.rank; }
  int size() const noexcept override { return start_.size; }
  void all_gather(const void* in, void* out, std::size_t bytes) override {
    start_.all_gather(in, out, bytes);
  }
  std::string_view host() const noexcept override { return env().host; }
  void leave() noexcept override {}

 private:
  ProcessStart start_;
};

}  // namespace

std::unique_ptr<World> make_process_world(const ProcessStart& start,
                                          std::chrono::milliseconds timeout, Backend backend) {
  check(timeout.count() >= 0 && timeout <= std::chrono::hours(24), ErrorCode::invalid_argument,
        "[world] timeout: {} ms, from 0 to 86400000", timeout.count());
  check(start.size >= 1 && start.rank >= 0 && start.rank < start.size, ErrorCode::invalid_argument,
        "[world] rank {} of {}: from 0, below the size", start.rank, start.size);
  check(start.all_gather != nullptr, ErrorCode::invalid_argument, "[world] all_gather: none");
  return std::make_unique<ProcessWorld>(std::make_unique<StartedGroup>(start),
                                        timeout.count() > 0 ? timeout : env().timeout, backend);
}

}  // namespace comet
