// SPDX-License-Identifier: Apache-2.0
#include "trace/timeline_svg.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "io/new_file.hpp"
#include "trace/bars.hpp"
#include "trace/kinds.hpp"
#include "trace/rows.hpp"
#include "trace/shares.hpp"
#include "trace/svg_parts.hpp"

namespace comet {
namespace {

constexpr double kWidth = 1200;
constexpr double kLeft = 118;          // of the plot
constexpr double kRight = 1200 - 116;  // leaves room for the last schedule's time
constexpr double kMargin = 20;         // of everything else
constexpr double kWorkerHeight = 11;
constexpr double kLinkHeight = 8;
constexpr double kRowGap = 1;
constexpr double kRankGap = 7;
constexpr double kHeaderHeight = 30;     // above the ranks of a schedule
constexpr double kAxisHeight = 30;       // below them
constexpr std::size_t kMostBars = 7000;  // about 140 bytes each
constexpr double kFirstLeastPx = 0.5;

constexpr std::string_view kDim = "#57606a";
constexpr std::string_view kGrid = "#d8dee4";
constexpr std::string_view kTrack = "#f3f5f7";  // behind a row: time in no event
constexpr std::string_view kSaved = "#e9f6ec";
constexpr std::string_view kSavedText = "#1a7f37";
constexpr std::string_view kEnd = "#24292f";

// What is drawn of one schedule: ranks, rows, bars.
struct RowDrawing {
  std::string name;
  std::string tooltip;
  double height = 0;
  std::vector<Bar> bars;
};
struct RankDrawing {
  int rank = 0;
  std::vector<RowDrawing> rows;
  double height() const {
    double sum = 0;
    for (const RowDrawing& row : rows) sum += row.height + kRowGap;
    return sum;
  }
};
struct Drawing {
  const Timeline* timeline = nullptr;
  std::vector<RankDrawing> ranks;
  double height() const {
    double sum = 0;
    for (const RankDrawing& rank : ranks) sum += rank.height() + kRankGap;
    return sum;
  }
};

struct Axis {
  double ns_per_px = 1;
  double x(double ns) const noexcept { return kLeft + ns / ns_per_px; }
};

Axis make_axis(const TimelineSet& set) {
  std::int64_t longest = 1;
  for (const Timeline& timeline : set.timelines) {
    longest = std::max(longest, timeline.duration_ns());
  }
  return {static_cast<double>(longest) / (kRight - kLeft)};
}

std::vector<Drawing> make_drawings(const TimelineSet& set, const Axis& axis, double least_px) {
  std::vector<Drawing> drawings;
  for (const Timeline& timeline : set.timelines) {
    Drawing& drawing = drawings.emplace_back();
    drawing.timeline = &timeline;
    const BarScale scale{timeline.begin_ns, axis.ns_per_px, least_px};
    for (int rank = 0; rank < timeline.num_ranks; ++rank) {
      if (!set.shows(rank)) continue;
      RankDrawing& of_rank = drawing.ranks.emplace_back(RankDrawing{.rank = rank, .rows = {}});
      for (const TimelineRow& row : rows_of(timeline, rank)) {
        const bool is_worker = row.kind == TimelineRow::Kind::worker;
        of_rank.rows.push_back({.name = row_name(row),
                                .tooltip = is_worker ? role_of(timeline, row.worker) : "",
                                .height = is_worker ? kWorkerHeight : kLinkHeight,
                                .bars = bars_of(row, scale)});
      }
    }
  }
  return drawings;
}

std::size_t count_bars(const std::vector<Drawing>& drawings) {
  std::size_t count = 0;
  for (const Drawing& drawing : drawings) {
    for (const RankDrawing& rank : drawing.ranks) {
      for (const RowDrawing& row : rank.rows) count += row.bars.size();
    }
  }
  return count;
}

// Merges more and more, until the file is small enough.
std::vector<Drawing> make_small_drawings(const TimelineSet& set, const Axis& axis) {
  double least_px = kFirstLeastPx;
  for (;;) {
    std::vector<Drawing> drawings = make_drawings(set, axis, least_px);
    if (count_bars(drawings) <= kMostBars || least_px >= kRight - kLeft) return drawings;
    least_px *= 1.5;
  }
}

// 1, 2 or 5 times a power of ten, for about ten ticks.
double tick_step(double span) {
  const double power = std::pow(10, std::floor(std::log10(span / 10)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (span / (factor * power) <= 12) return factor * power;
  }
  return 10 * power;
}

// Three digits or more, so that it fits beside the plot.
std::string milliseconds_text(std::int64_t ns) {
  const double ms = static_cast<double>(ns) * 1e-6;
  return fmt::format("{:.{}f} ms", ms, ms < 10 ? 2 : ms < 100 ? 1 : 0);
}

std::string tooltip_of(const Bar& bar, const Axis& axis) {
  const double ms_per_px = axis.ns_per_px * 1e-6;
  std::string text = fmt::format("{}: {:.3f} to {:.3f} ms", to_string(bar.event.kind),
                                 bar.begin_px * ms_per_px, bar.end_px * ms_per_px);
  if (bar.count > 1) return text + fmt::format(", {} intervals drawn as one", bar.count);
  const auto add = [&](const char* name, std::int32_t value) {
    if (value >= 0) text += fmt::format(", {} {}", name, value);
  };
  add("group", bar.event.group);
  add("tile", bar.event.tile);
  add("panel", bar.event.panel);
  if (style_of(bar.event.kind).of == TraceClass::link) {
    const bool pull = bar.event.kind == TraceKind::link_pull;
    add("from rank", pull ? bar.event.peer : bar.event.rank);
    add("to rank", pull ? bar.event.rank : bar.event.peer);
  } else {
    add("peer", bar.event.peer);
  }
  add("block", bar.event.block);
  return text;
}

void draw_row(SvgCanvas& canvas, const RowDrawing& row, const Axis& axis, double end_px) {
  canvas.rect({kLeft, 0, end_px, row.height}, kTrack);
  for (const Bar& bar : row.bars) {
    const double width = bar.end_px - bar.begin_px;
    // Sets tiles of one colour apart.
    const double border = width > 3 && bar.event.kind != TraceKind::wait ? 0.5 : 0;
    canvas.rect({kLeft + bar.begin_px, 0, std::max(width - border, 0.2), row.height},
                style_of(bar.event.kind).colour, tooltip_of(bar, axis));
  }
  canvas.text(kLeft - 6, row.height / 2 + 3.2, row.name,
              {.size = row.height > 9 ? 9.5 : 8.5, .colour = kDim, .anchor = "end"});
}

// Grid, ticks below, and the band of the time saved.
void draw_axis(SvgCanvas& canvas, const Drawing& drawing, const Axis& axis,
               const TimelineSet& set) {
  const double height = drawing.height() - kRankGap;
  const auto end_ns = static_cast<double>(drawing.timeline->duration_ns());
  const auto yardstick_ns = static_cast<double>(set.yardstick_ns());
  if (yardstick_ns > end_ns) {
    canvas.rect({axis.x(end_ns), 0, axis.x(yardstick_ns) - axis.x(end_ns), height}, kSaved);
  }
  const double span_ms = (kRight - kLeft) * axis.ns_per_px * 1e-6;
  const double step = tick_step(span_ms);
  const int decimals = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
  for (int tick = 0; tick * step <= span_ms * (1 + 1e-9); ++tick) {
    const double x = axis.x(tick * step * 1e6);
    canvas.vertical(x, -2, height + 4, 1, kGrid);
    canvas.text(x, height + 15, fmt::format("{:.{}f}", tick * step, decimals),
                {.size = 10, .colour = kDim, .anchor = "middle"});
  }
  canvas.text(kRight + 22, height + 15, "ms", {.size = 10, .colour = kDim});
}

void draw_end(SvgCanvas& canvas, const Drawing& drawing, const Axis& axis, const TimelineSet& set) {
  const Timeline& timeline = *drawing.timeline;
  const double height = drawing.height() - kRankGap;
  const auto end_ns = static_cast<double>(timeline.duration_ns());
  const auto yardstick_ns = static_cast<double>(set.yardstick_ns());
  const double x = axis.x(end_ns);
  canvas.vertical(x, -6, height + 4, 1.5, kEnd);
  const double y = height / 2;
  canvas.text(x + 8, y - 4, milliseconds_text(timeline.duration_ns()), {.size = 16, .bold = true});
  canvas.text(x + 8, y + 14, fmt::format("{:.2f}x", set.speedup(timeline)),
              {.size = 15, .bold = true});
  if (yardstick_ns > end_ns) {
    canvas.text(x + 8, y + 30,
                milliseconds_text(set.yardstick_ns() - timeline.duration_ns()) + " saved",
                {.size = 11, .colour = kSavedText});
  }
}

std::string shares_text(const Timeline& timeline) {
  const WorkerShares shares = worker_shares(timeline);
  std::string text =
      fmt::format("workers: {:.0f}% compute, {:.0f}% copies, {:.0f}% plan, {:.0f}% wait",
                  100 * shares.compute, 100 * shares.copy, 100 * shares.plan, 100 * shares.wait);
  if (shares.busiest_link > 0) {
    text += fmt::format("; busiest link: {:.0f}%", 100 * shares.busiest_link);
  }
  return text;
}

void draw_schedule(SvgCanvas& canvas, const Drawing& drawing, const Axis& axis,
                   const TimelineSet& set) {
  const Timeline& timeline = *drawing.timeline;
  canvas.text(kMargin, -12, timeline.name, {.size = 16, .bold = true});
  canvas.text(kLeft, -12, timeline.note, {.size = 12, .colour = kDim});
  canvas.text(kRight, -12, shares_text(timeline), {.size = 12, .colour = kDim, .anchor = "end"});
  draw_axis(canvas, drawing, axis, set);
  const auto end_px = static_cast<double>(timeline.duration_ns()) / axis.ns_per_px;
  double y = 0;
  for (const RankDrawing& rank : drawing.ranks) {
    canvas.text(kMargin, y + rank.height() / 2 + 3.5, fmt::format("rank {}", rank.rank),
                {.size = 11, .bold = true});
    for (const RowDrawing& row : rank.rows) {
      canvas.begin_group(y);
      draw_row(canvas, row, axis, end_px);
      canvas.end_group();
      y += row.height + kRowGap;
    }
    y += kRankGap;
  }
  draw_end(canvas, drawing, axis, set);
}

// Only kinds that occur; what workers do for tokens above the rest. Returns the last baseline.
double draw_legend(SvgCanvas& canvas, const TimelineSet& set, double y) {
  double x = kMargin;
  bool has_second_line = false;
  for (const KindStyle& style : kind_styles()) {
    const bool occurs =
        std::any_of(set.timelines.begin(), set.timelines.end(), [&](const Timeline& timeline) {
          return std::any_of(timeline.events.begin(), timeline.events.end(),
                             [&](const TraceEvent& event) { return event.kind == style.kind; });
        });
    if (!occurs) continue;
    const bool is_second_line = style.of != TraceClass::compute && style.of != TraceClass::copy;
    if (is_second_line && !has_second_line && x > kMargin) {
      x = kMargin;
      y += 18;
    }
    has_second_line = has_second_line || is_second_line;
    const double width = 17 + text_width(style.label, 11.5) + 20;
    if (x + width > kWidth - kMargin) {
      x = kMargin;
      y += 18;
    }
    canvas.rect({x, y - 9, 12, 11}, style.colour);
    canvas.text(x + 17, y, style.label, {.size = 11.5});
    x += width;
  }
  return y;
}

}  // namespace

std::string timeline_svg(const TimelineSet& set) {
  SvgCanvas canvas;
  double y = 34;
  canvas.text(kMargin, y, set.title, {.size = 20, .bold = true});
  for (const std::string& caption : set.captions) {
    y += 18;
    canvas.text(kMargin, y, caption, {.size = 12, .colour = kDim});
  }
  y = draw_legend(canvas, set, y + 28);
  const Axis axis = make_axis(set);

  for (const Drawing& drawing : make_small_drawings(set, axis)) {
    y += 14 + kHeaderHeight;
    canvas.begin_group(y);
    draw_schedule(canvas, drawing, axis, set);
    canvas.end_group();
    y += drawing.height() - kRankGap + kAxisHeight - 8;
  }
  return canvas.document(kWidth, y + 16);
}

void write_timeline_svg(const TimelineSet& set, const std::filesystem::path& path) {
  const std::string text = timeline_svg(set);
  NewFile file(path, "trace");
  file.append(text);
  file.commit();
}

}  // namespace comet
