// SPDX-License-Identifier: Apache-2.0
#include "layer/device_calls.hpp"

#include <vector>

#include "base/check.hpp"
#include "comm/world_view.hpp"

namespace comet {
namespace {

DeviceRank& device_of(World& world) {
  DeviceRank* const device = world.view().device;
  check(device != nullptr, ErrorCode::invalid_argument,
        "[device] rank {} has no GPU: its world's backend is {}", world.rank(),
        to_string(world.backend()));
  device->make_current();
  return *device;
}

}  // namespace

RankDeviceInfo describe_device(World& world) {
  if (world.view().device == nullptr) return {};
  const DeviceRank& device = device_of(world);
  RankDeviceInfo info{.device = device.device(),
                      .name = {},
                      .multiprocessors = device.multiprocessors(),
                      .l2_bytes = device.l2_bytes()};
  const std::vector<GpuInfo> gpus = list_gpus();
  const auto index = static_cast<std::size_t>(info.device);
  if (index < gpus.size()) info.name = gpus[index].name;
  return info;
}

void queue_start_line(World& world) { device_of(world).queue_start_line(); }

CapturedCall::CapturedCall(World& world, const std::function<void()>& queue_call)
    : graph_(device_of(world).capture([&] {
        queue_start_line(world);
        queue_call();
      })) {}

CapturedCall::~CapturedCall() = default;
CapturedCall::CapturedCall(CapturedCall&&) noexcept = default;
CapturedCall& CapturedCall::operator=(CapturedCall&&) noexcept = default;

void CapturedCall::launch() { graph_->launch(); }

}  // namespace comet
