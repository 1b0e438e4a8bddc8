// SPDX-License-Identifier: Apache-2.0
#include "layer/rank_memory.hpp"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "base/check.hpp"
#include "comm/world_view.hpp"

namespace comet {

RankMemory::RankMemory(World& world) : world_(world), device_(world.view().device) {
  if (device_ != nullptr) device_->make_current();
}

const void* RankMemory::place(const void* from, std::int64_t bytes) {
  if (is_host() || from == nullptr) return from;
  std::byte* const to = device_->allocate(bytes);
  device_->upload(to, from, bytes);
  placed_.push_back({static_cast<const std::byte*>(from), bytes, to});
  return to;
}

const void* RankMemory::place_shared(const void* from, std::int64_t bytes) {
  if (is_host() || from == nullptr) return from;
  if (world_.view().are_processes) return place(from, bytes);  // no process sees another's memory
  const auto gather = [&](const auto& mine) {
    std::vector<std::decay_t<decltype(mine)>> all(static_cast<std::size_t>(world_.size()));
    world_.all_gather(&mine, all.data(), sizeof(mine));
    return all;
  };
  const std::vector<int> devices = gather(device_->device());
  const auto first = static_cast<std::size_t>(
      std::find(devices.begin(), devices.end(), device_->device()) - devices.begin());
  const bool is_first = first == static_cast<std::size_t>(world_.rank());
  const void* const mine = is_first ? place(from, bytes) : nullptr;
  const void* const to = gather(mine)[first];
  if (!is_first) {
    placed_.push_back(
        {static_cast<const std::byte*>(from), bytes, static_cast<const std::byte*>(to)});
  }
  return to;
}

void* RankMemory::reserve(std::int64_t bytes) {
  if (!is_host()) return device_->allocate(bytes);
  return host_.emplace_back(static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1))).data();
}

void RankMemory::upload(void* to, const void* from, std::int64_t bytes) {
  if (bytes == 0) return;
  if (!is_host()) return device_->upload(to, from, bytes);
  std::memcpy(to, from, static_cast<std::size_t>(bytes));
}

void RankMemory::download(void* to, const void* from, std::int64_t bytes) {
  if (bytes == 0) return;
  if (!is_host()) return device_->download(to, from, bytes);
  std::memcpy(to, from, static_cast<std::size_t>(bytes));
}

MoeWeights RankMemory::locate(const MoeWeights& weights, std::int64_t num_local) {
  if (is_host()) return weights;
  return {.gate = locate(weights.gate, num_local),
          .up = locate(weights.up, num_local),
          .down = locate(weights.down, num_local)};
}

ExpertMatrices RankMemory::locate(const ExpertMatrices& matrices, std::int64_t num_local) {
  ExpertMatrices located = matrices;
  if (matrices.base != nullptr) located.base = find(matrices.base);
  if (matrices.list == nullptr) return located;
  std::vector<const void*>& list = lists_.emplace_back();
  for (std::int64_t e = 0; e < num_local; ++e) list.push_back(find(matrices.list[e]));
  located.list = list.data();
  return located;
}

const void* RankMemory::find(const void* from) const {
  const auto* const address = static_cast<const std::byte*>(from);
  const auto placed = std::find_if(placed_.begin(), placed_.end(), [&](const Placed& p) {
    return address >= p.from && address < p.from + std::max<std::int64_t>(p.bytes, 1);
  });
  check_internal(placed != placed_.end(), "[memory] weights at {} were not placed",
                 static_cast<const void*>(from));
  return placed->to + (address - placed->from);
}

}  // namespace comet
