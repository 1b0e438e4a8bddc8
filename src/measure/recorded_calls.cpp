// SPDX-License-Identifier: Apache-2.0
#include "measure/recorded_calls.hpp"

#include <algorithm>
#include <cstring>
#include <span>

#include "layer/world_runner.hpp"

namespace comet {
namespace {

void shift(RecordedCall& call, std::int64_t ns) {
  call.begin_ns += ns;
  call.end_ns += ns;
  for (TraceEvent& event : call.events) {
    event.begin_ns += ns;
    event.end_ns += ns;
  }
}

}  // namespace

void limit_to_events(RecordedCall& call) {
  if (call.events.empty()) return;
  call.end_ns = call.begin_ns = call.events.front().begin_ns;
  for (const TraceEvent& event : call.events) {
    call.begin_ns = std::min(call.begin_ns, event.begin_ns);
    call.end_ns = std::max(call.end_ns, event.end_ns);
  }
}

void share_recorded(World& world, std::vector<RecordedCall>& parts,
                    const std::vector<std::int64_t>& clocks) {
  const RecordedCall& own = parts[static_cast<std::size_t>(world.rank())];
  const std::int64_t times[] = {own.begin_ns, own.end_ns};
  const auto all_times = gather_bytes(world, std::as_bytes(std::span(times)));
  const auto all_events = gather_bytes(world, std::as_bytes(std::span(own.events)));
  for (std::size_t rank = 0; rank < parts.size(); ++rank) {
    RecordedCall& part = parts[rank];
    std::memcpy(&part.begin_ns, all_times[rank].data(), sizeof(std::int64_t));
    std::memcpy(&part.end_ns, all_times[rank].data() + sizeof(std::int64_t), sizeof(std::int64_t));
    part.events.resize(all_events[rank].size() / sizeof(TraceEvent));
    if (!part.events.empty()) {
      std::memcpy(part.events.data(), all_events[rank].data(), all_events[rank].size());
    }
    shift(part, -clocks[rank]);
  }
}

RecordedCall join_parts(const std::vector<RecordedCall>& parts) {
  RecordedCall whole = parts.front();
  for (auto part = parts.begin() + 1; part != parts.end(); ++part) {
    whole.begin_ns = std::min(whole.begin_ns, part->begin_ns);
    whole.end_ns = std::max(whole.end_ns, part->end_ns);
    whole.events.insert(whole.events.end(), part->events.begin(), part->events.end());
  }
  return whole;
}

}  // namespace comet
