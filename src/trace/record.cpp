// SPDX-License-Identifier: Apache-2.0
#include "trace/record.hpp"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

#include "base/check.hpp"
#include "base/trace_span.hpp"
#include "measure/bench_data.hpp"

namespace comet {
namespace {

constexpr std::size_t kCalls = 3;  // recorded; the median is kept

// One rank's part of one call.
struct RankCall {
  Trace events;
  std::int64_t begin_ns = 0;
  std::int64_t end_ns = 0;
};
using Call = std::vector<RankCall>;  // [world]

// What the ranks share; each writes its own entries.
struct Recording {
  const BenchData& data;
  const BenchCase& bench;
  const std::vector<BenchRow>& rows;
  std::vector<std::vector<Call>> calls;  // [rows][kCalls]
};

ForwardOptions options_of(const BenchCase& bench, const BenchRow& row) {
  return {.schedule = row.schedule,
          .groups = row.schedule == Schedule::pipelined ? row.chunks : row.groups,
          .panel = row.panel,
          .chunk = bench.chunk,
          .n_c_dispatch = row.n_c_dispatch,
          .n_c_combine = row.n_c_combine};
}

void record_rank(Recording& recording, World& world) {
  const int rank = world.rank();
  const BenchRow& first = recording.rows.front();
  const MoeDesc& desc = recording.data.desc();
  const auto layer = MoeLayer::create(
      desc, recording.bench.parallel, recording.data.weights_of(rank), world,
      {.block_m = first.block_m, .block_n = first.block_n, .num_workers = first.workers});
  const std::int64_t tokens = recording.data.tokens_of(rank);
  std::vector<std::byte> y(tokens * desc.hidden * size_of(desc.dtype));
  std::vector<std::byte> expected;
  const auto forward = [&](const ForwardOptions& options) {
    layer->forward(recording.data.x_of(rank), recording.data.routing_of(rank),
                   {y.data(), tokens, desc.hidden, desc.hidden, desc.dtype}, options);
    if (expected.empty()) expected = y;
    check(y == expected, ErrorCode::internal, "[trace] rank {}: {} gives other bits than {}", rank,
          to_string(options.schedule), to_string(first.schedule));
  };
  for (std::size_t i = 0; i < recording.rows.size(); ++i) {
    ForwardOptions options = options_of(recording.bench, recording.rows[i]);
    forward(options);
    for (Call& call : recording.calls[i]) {
      RankCall& mine = call[static_cast<std::size_t>(rank)];
      options.trace = &mine.events;
      world.barrier();
      mine.begin_ns = trace_now_ns();
      forward(options);
      mine.end_ns = trace_now_ns();
    }
  }
}

std::string note_of(const BenchRow& row) {
  const auto counted = [](std::int64_t count, const char* one) {
    return fmt::format("{} {}{}", count, one, count == 1 ? "" : "s");
  };
  std::string note;
  if (row.schedule == Schedule::comet) note = counted(row.groups, "group");
  if (row.schedule == Schedule::pipelined) note = counted(row.chunks, "chunk");
  if (note.empty()) return note;
  if (row.n_c_dispatch == 0 && row.n_c_combine == 0) return note + ", workers do both";
  return note + fmt::format(", n_c {}/{}", row.n_c_dispatch, row.n_c_combine);
}

Timeline make_timeline(const BenchRow& row, Call& call) {
  Timeline timeline{.name = std::string(to_string(row.schedule)),
                    .note = note_of(row),
                    .num_ranks = static_cast<int>(call.size()),
                    .num_workers = row.workers,
                    .n_c_dispatch = row.n_c_dispatch,
                    .n_c_combine = row.n_c_combine,
                    .begin_ns = call.front().begin_ns,
                    .end_ns = call.front().end_ns};
  for (RankCall& rank : call) {
    timeline.begin_ns = std::min(timeline.begin_ns, rank.begin_ns);
    timeline.end_ns = std::max(timeline.end_ns, rank.end_ns);
    timeline.events.insert(timeline.events.end(), rank.events.begin(), rank.events.end());
  }
  return timeline;
}

Timeline median_timeline(const BenchRow& row, std::vector<Call>& calls) {
  std::vector<Timeline> timelines;
  for (Call& call : calls) timelines.push_back(make_timeline(row, call));
  std::sort(timelines.begin(), timelines.end(),
            [](const Timeline& a, const Timeline& b) { return a.duration_ns() < b.duration_ns(); });
  return std::move(timelines[timelines.size() / 2]);
}

}  // namespace

std::vector<Timeline> record_timelines(const BenchCase& bench, const std::vector<BenchRow>& rows) {
  check(!rows.empty(), ErrorCode::invalid_argument, "[trace] no schedules to record");
  for (const BenchRow& row : rows) {
    check(row.schedule != Schedule::reference, ErrorCode::invalid_argument,
          "[trace] reference records no work: sequential, pipelined or comet");
  }
  const BenchData data(bench);
  const auto world = static_cast<int>(bench.parallel.world_size());
  Recording recording{.data = data, .bench = bench, .rows = rows, .calls = {}};
  recording.calls.assign(rows.size(), std::vector<Call>(kCalls, Call(world)));
  run_local_world(world, {.link = rows.front().link},
                  [&](World& rank) { record_rank(recording, rank); });
  std::vector<Timeline> timelines;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    timelines.push_back(median_timeline(rows[i], recording.calls[i]));
  }
  return timelines;
}

}  // namespace comet
