// SPDX-License-Identifier: Apache-2.0
#include "trace/bars.hpp"

#include <algorithm>
#include <array>
#include <optional>

#include "trace/kinds.hpp"

namespace comet {
namespace {

// Tiny events side by side.
class Cluster {
 public:
  Cluster(const TraceEvent& event, double begin_px, double end_px) : begin_px_(begin_px) {
    add(event, end_px - begin_px, end_px);
  }
  void add(const TraceEvent& event, double width_px, double end_px) {
    const auto kind = static_cast<std::size_t>(event.kind);
    if (width_px_[kind] == 0) first_[kind] = event;
    // A little more than nothing, so that events without length have a kind too.
    width_px_[kind] += width_px + 1e-9;
    end_px_ = end_px;
    ++count_;
  }
  double begin_px() const noexcept { return begin_px_; }
  double end_px() const noexcept { return end_px_; }
  Bar bar() const {
    const auto widest = std::max_element(width_px_.begin(), width_px_.end()) - width_px_.begin();
    return {begin_px_, end_px_, count_, first_[static_cast<std::size_t>(widest)]};
  }

 private:
  double begin_px_ = 0;
  double end_px_ = 0;
  int count_ = 0;
  std::array<double, kNumTraceKinds> width_px_ = {};
  std::array<TraceEvent, kNumTraceKinds> first_ = {};
};

// A wait right after a wait: a worker that looks around between two sleeps goes on waiting.
bool continues(const std::vector<Bar>& bars, bool in_cluster, const TraceEvent& event,
               double begin_px, double least_px) {
  return event.kind == TraceKind::wait && !in_cluster && !bars.empty() &&
         bars.back().event.kind == TraceKind::wait && begin_px - bars.back().end_px < least_px;
}

}  // namespace

std::vector<Bar> bars_of(const TimelineRow& row, const BarScale& scale) {
  std::vector<Bar> bars;
  std::optional<Cluster> cluster;
  const auto close = [&] {
    if (cluster) bars.push_back(cluster->bar());
    cluster.reset();
  };
  const auto pixels = [&](std::int64_t ns) {
    return static_cast<double>(ns - scale.zero_ns) / scale.ns_per_px;
  };
  std::int64_t until_ns = row.events.empty() ? 0 : row.events.front().begin_ns;
  for (const TraceEvent& event : row.events) {
    if (event.end_ns < until_ns) continue;
    const double begin_px = pixels(std::max(event.begin_ns, until_ns));
    const double end_px = pixels(event.end_ns);
    until_ns = event.end_ns;
    if (continues(bars, cluster.has_value(), event, begin_px, scale.least_px)) {
      bars.back().end_px = end_px;
      ++bars.back().count;
      continue;
    }
    const bool tiny = end_px - begin_px < scale.least_px;
    if (cluster && (!tiny || begin_px - cluster->end_px() >= scale.least_px ||
                    cluster->end_px() - cluster->begin_px() >= scale.least_px)) {
      close();
    }
    if (!tiny) {
      bars.push_back({begin_px, end_px, 1, event});
    } else if (cluster) {
      cluster->add(event, end_px - begin_px, end_px);
    } else {
      cluster.emplace(event, begin_px, end_px);
    }
  }
  close();
  return bars;
}

}  // namespace comet
