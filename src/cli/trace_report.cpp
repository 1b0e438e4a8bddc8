// SPDX-License-Identifier: Apache-2.0
#include "cli/trace_report.hpp"

#include <fmt/format.h>

#include "trace/shares.hpp"

namespace comet::cli {
namespace {

std::string percent(double part) { return fmt::format("{:.0f} %", 100 * part); }

std::string schedule_text(const TimelineSet& set, const Timeline& timeline) {
  const WorkerShares shares = worker_shares(timeline);
  return fmt::format("  {:<11} {:>10} {:>7.2f}x {:>8} {:>7} {:>7} {:>7} {:>7}   {}\n",
                     timeline.name, fmt::format("{:.2f} ms", timeline.milliseconds()),
                     set.speedup(timeline), percent(shares.compute), percent(shares.copy),
                     percent(shares.plan), percent(shares.wait),
                     shares.busiest_link > 0 ? percent(shares.busiest_link) : "-", timeline.note);
}

}  // namespace

std::string trace_text(const TimelineSet& set) {
  std::string text = fmt::format("{}\n", fmt::join(set.captions, "\n  "));
  text += fmt::format("  {:<11} {:>10} {:>8} {:>8} {:>7} {:>7} {:>7} {:>7}\n", "schedule", "time",
                      "speedup", "compute", "copy", "plan", "wait", "link");
  for (const Timeline& timeline : set.timelines) text += schedule_text(set, timeline);
  return text;
}

}  // namespace comet::cli
