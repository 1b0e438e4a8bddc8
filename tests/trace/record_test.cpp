// SPDX-License-Identifier: Apache-2.0
// Recorded calls of real schedules: every piece of work is there, and both writers take them.
#include "trace/record.hpp"

#include <gtest/gtest.h>

#include <map>

#include "comet/error.hpp"
#include "trace/chrome_json.hpp"
#include "trace/shares.hpp"
#include "trace/timeline_svg.hpp"
#include "trace/trace_format.hpp"
#include "trace/well_formed.hpp"

namespace comet {
namespace {

BenchCase small_case() {
  BenchCase bench;
  bench.desc.num_experts = 4;
  bench.desc.topk = 2;
  bench.desc.hidden = 32;
  bench.desc.intermediate = 64;
  bench.parallel = {.ep = 2, .tp = 1};
  bench.tokens = 150;
  bench.link = {.kind = LinkSpec::Kind::paced, .gigabytes_per_second = 0.05};
  bench.workers = 2;
  return bench;
}

BenchRow row_of(Schedule schedule, std::int64_t parts) {
  BenchRow row;
  row.schedule = schedule;
  row.groups = schedule == Schedule::comet ? parts : 1;
  row.chunks = schedule == Schedule::pipelined ? parts : 1;
  row.n_c_dispatch = row.n_c_combine = schedule == Schedule::sequential ? 0 : 1;
  row.block_m = 16;
  row.block_n = 16;
  row.panel = 16;
  row.workers = 2;
  row.link = small_case().link;
  return row;
}

std::vector<Timeline> record_small() {
  return record_timelines(small_case(),
                          {row_of(Schedule::sequential, 1), row_of(Schedule::pipelined, 2),
                           row_of(Schedule::comet, 2)});
}

TEST(Record, HasAllWorkOfEverySchedule) {
  const std::vector<Timeline> timelines = record_small();
  ASSERT_EQ(timelines.size(), 3U);
  EXPECT_EQ(timelines[0].name, "sequential");
  EXPECT_EQ(timelines[0].note, "");
  EXPECT_EQ(timelines[1].note, "2 chunks, n_c 1/1");
  EXPECT_EQ(timelines[2].note, "2 groups, n_c 1/1");
  for (const Timeline& timeline : timelines) {
    std::map<TraceKind, int> count;
    for (const TraceEvent& event : timeline.events) ++count[event.kind];
    EXPECT_EQ(count[TraceKind::publish], 2) << timeline.name;  // so it is one call, not several
    EXPECT_EQ(count[TraceKind::plan], 2);
    for (const TraceKind kind :
         {TraceKind::gather, TraceKind::pull, TraceKind::first_gemm, TraceKind::second_gemm,
          TraceKind::push, TraceKind::home_sum, TraceKind::link_pull, TraceKind::link_push}) {
      EXPECT_GT(count[kind], 0) << timeline.name << " " << to_string(kind);
    }
    // 64 columns of the first GEMM and 32 of the second, in tiles of 16.
    EXPECT_EQ(count[TraceKind::first_gemm], 2 * count[TraceKind::second_gemm]);
    EXPECT_GT(timeline.duration_ns(), 0);
    const WorkerShares shares = worker_shares(timeline);
    EXPECT_GT(shares.compute, 0);
    EXPECT_GT(shares.wait, 0);
    EXPECT_GT(shares.busiest_link, 0);
    EXPECT_LE(shares.busiest_link, 1);
  }
}

TEST(Record, BothWritersTakeIt) {
  TimelineSet set{.title = "recorded", .captions = {}, .timelines = record_small()};
  std::string text;
  stream_chrome_json(set, [&](std::string_view piece) { text += piece; });
  const auto threads = expect_trace_format(nlohmann::json::parse(text));
  // The caller, who runs a call this small alone, and two directions, of two ranks.
  EXPECT_GE(threads.size(), 3U * 2 * 3);
  EXPECT_EQ(XmlReader(timeline_svg(set)).fault(), "");
}

TEST(Record, ReferenceAndNoRowsAreRefused) {
  EXPECT_THROW(record_timelines(small_case(), {}), Error);
  EXPECT_THROW(record_timelines(small_case(), {row_of(Schedule::reference, 1)}), Error);
}

}  // namespace
}  // namespace comet
