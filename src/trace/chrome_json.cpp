// SPDX-License-Identifier: Apache-2.0
#include "trace/chrome_json.hpp"

#include <fmt/format.h>

#include <iterator>
#include <string>

#include "base/check.hpp"
#include "io/new_file.hpp"
#include "trace/escape.hpp"
#include "trace/kinds.hpp"
#include "trace/rows.hpp"

namespace comet {
namespace {

constexpr int kPidsPerSchedule = 1000;
constexpr std::size_t kPieceBytes = std::size_t{1} << 16;

class Writer {
 public:
  explicit Writer(const TextSink& sink) : sink_(sink) {}

  template <typename... Args>
  void append(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(piece_), format, std::forward<Args>(args)...);
    if (piece_.size() >= kPieceBytes) flush();
  }
  void flush() {
    sink_({piece_.data(), piece_.size()});
    piece_.clear();
  }
  /// Begins the next element of traceEvents.
  void next_event() {
    append("{}", is_first_ ? "\n" : ",\n");
    is_first_ = false;
  }
  int next_tid() noexcept { return ++last_tid_; }

 private:
  const TextSink& sink_;
  fmt::memory_buffer piece_;
  bool is_first_ = true;
  int last_tid_ = 0;  // unique in the whole file: viewers disagree on whether pids tell them apart
};

void append_name(Writer& out, const char* what, int pid, int tid, const std::string& name,
                 int order) {
  out.next_event();
  out.append(R"({{"ph":"M","name":"{}_name","pid":{},"tid":{},"args":{{"name":{}}}}})", what, pid,
             tid, json_quote(name));
  out.next_event();
  out.append(R"({{"ph":"M","name":"{}_sort_index","pid":{},"tid":{},"args":{{"sort_index":{}}}}})",
             what, pid, tid, order);
}

void append_event(Writer& out, const TraceEvent& event, std::int64_t zero_ns, int pid, int tid) {
  const KindStyle& style = style_of(event.kind);
  const auto microseconds = [](std::int64_t ns) { return static_cast<double>(ns) * 1e-3; };
  out.next_event();
  out.append(
      R"({{"ph":"X","name":"{}","cat":"{}","cname":"{}","pid":{},"tid":{},"ts":{:.3f},"dur":{:.3f},"args":{{)",
      to_string(event.kind), to_string(style.of), style.cname, pid, tid,
      microseconds(event.begin_ns - zero_ns), microseconds(event.end_ns - event.begin_ns));
  const char* separator = "";
  const auto argument = [&](const char* name, std::int32_t value) {
    if (value < 0) return;
    out.append(R"({}"{}":{})", separator, name, value);
    separator = ",";
  };
  argument("group", event.group);
  argument("tile", event.tile);
  argument("panel", event.panel);
  argument("peer", event.peer);
  argument("block", event.block);
  if (style.of == TraceClass::link) {  // seen from both ends, so say whose it is
    argument("rank", event.rank);
    argument("worker", event.worker);
  }
  out.append("}}}}");
}

std::string thread_name(const Timeline& timeline, const TimelineRow& row, std::size_t part) {
  const std::string name =
      row.kind == TimelineRow::Kind::worker ? role_of(timeline, row.worker) : row_name(row);
  return part == 0 ? name : fmt::format("{} ({})", name, part + 1);
}

void append_rank(Writer& out, const Timeline& timeline, int rank, int pid) {
  append_name(out, "process", pid, 0, fmt::format("{} rank {}", timeline.name, rank), pid);
  int order = 0;
  for (const TimelineRow& row : rows_of(timeline, rank)) {
    const std::vector<TimelineRow> parts = without_overlap(row);
    for (std::size_t part = 0; part < parts.size(); ++part) {
      const int tid = out.next_tid();
      append_name(out, "thread", pid, tid, thread_name(timeline, row, part), order++);
      for (const TraceEvent& event : parts[part].events) {
        append_event(out, event, timeline.begin_ns, pid, tid);
      }
    }
  }
}

void append_other_data(Writer& out, const TimelineSet& set) {
  out.append("\"otherData\":{{\"title\":{}", json_quote(set.title));
  for (std::size_t i = 0; i < set.captions.size(); ++i) {
    out.append(",\"caption {}\":{}", i + 1, json_quote(set.captions[i]));
  }
  for (std::size_t i = 0; i < set.timelines.size(); ++i) {
    const Timeline& timeline = set.timelines[i];
    const std::string text =
        fmt::format("{}{}{}: {:.3f} ms, {:.2f}x", timeline.name, timeline.note.empty() ? "" : ", ",
                    timeline.note, timeline.milliseconds(), set.speedup(timeline));
    out.append(",\"schedule {}\":{}", i + 1, json_quote(text));
  }
  out.append("}}");
}

}  // namespace

void stream_chrome_json(const TimelineSet& set, const TextSink& sink) {
  Writer out(sink);
  out.append("{{\"displayTimeUnit\":\"ms\",");
  append_other_data(out, set);
  out.append(",\"traceEvents\":[");
  int pid_base = 0;
  for (const Timeline& timeline : set.timelines) {
    check(timeline.num_ranks < kPidsPerSchedule, ErrorCode::invalid_argument,
          "[trace] {} ranks: a trace file holds fewer than {}", timeline.num_ranks,
          kPidsPerSchedule);
    pid_base += kPidsPerSchedule;
    for (int rank = 0; rank < timeline.num_ranks; ++rank) {
      if (set.shows(rank)) append_rank(out, timeline, rank, pid_base + rank);
    }
  }
  out.append("\n]}}\n");
  out.flush();
}

void write_chrome_json(const TimelineSet& set, const std::filesystem::path& path) {
  NewFile file(path, "trace");
  stream_chrome_json(set, [&](std::string_view piece) { file.append(piece); });
  file.commit();
}

}  // namespace comet
