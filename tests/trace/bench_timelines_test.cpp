// SPDX-License-Identifier: Apache-2.0
// Calls that a benchmark recorded: every piece of work is there, and both writers take them.
#include "trace/bench_timelines.hpp"

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
  bench.block_m = bench.block_n = bench.panel = 16;
  bench.groups = 2;
  bench.chunk_degrees = {2};
  bench.n_c_dispatch = bench.n_c_combine = 1;
  bench.rounds = 3;
  bench.record = true;
  return bench;
}

TEST(BenchTimelines, HaveAllWorkOfEverySchedule) {
  const BenchCase bench = small_case();
  std::vector<BenchRow> rows = run_bench(bench);
  rows[2].waves = 4;  // as on GPUs
  const std::vector<Timeline> timelines = bench_timelines(bench, rows);
  ASSERT_EQ(timelines.size(), 3U);
  EXPECT_EQ(timelines[0].name, "sequential");
  EXPECT_EQ(timelines[0].note, "");
  EXPECT_EQ(timelines[1].note, "2 chunks, n_c 1/1");
  EXPECT_EQ(timelines[2].note, "2 groups, 4 waves, n_c 1/1");
  for (std::size_t i = 0; i < timelines.size(); ++i) {
    const Timeline& timeline = timelines[i];
    std::map<TraceKind, int> count;
    for (const TraceEvent& event : timeline.events) ++count[event.kind];
    EXPECT_EQ(count[TraceKind::publish], 2) << timeline.name;  // so it is one call, not several
    EXPECT_EQ(count[TraceKind::plan], 2);
    for (const TraceKind kind :
         {TraceKind::gather, TraceKind::pull, TraceKind::first_gemm, TraceKind::second_gemm,
          TraceKind::push, TraceKind::home_sum, TraceKind::link_pull, TraceKind::link_push}) {
      EXPECT_GT(count[kind], 0) << timeline.name << " " << to_string(kind);
    }
    // 64 columns of the first GEMM in tiles of 16, 32 of the second in panels.
    EXPECT_EQ(count[TraceKind::first_gemm] * 32 / rows[i].panel,
              count[TraceKind::second_gemm] * 64 / 16);
    // The median call of three, and all ranks' times lie in it.
    EXPECT_GE(timeline.milliseconds() * 1000, rows[i].t_layer_us);
    const WorkerShares shares = worker_shares(timeline);
    EXPECT_GT(shares.compute, 0);
    EXPECT_GT(shares.wait, 0);
    EXPECT_GT(shares.busiest_link, 0);
    EXPECT_LE(shares.busiest_link, 1);
  }
}

TEST(BenchTimelines, BothWritersTakeThem) {
  const BenchCase bench = small_case();
  TimelineSet set{
      .title = "recorded", .captions = {}, .timelines = bench_timelines(bench, run_bench(bench))};
  std::string text;
  stream_chrome_json(set, [&](std::string_view piece) { text += piece; });
  const auto threads = expect_trace_format(nlohmann::json::parse(text));
  // The caller, who runs a call this small alone, and two directions, of two ranks.
  EXPECT_GE(threads.size(), 3U * 2 * 3);
  EXPECT_EQ(XmlReader(timeline_svg(set)).fault(), "");
}

TEST(BenchTimelines, ReferenceIsLeftOut) {
  BenchCase bench = small_case();
  bench.schedules = {Schedule::reference, Schedule::comet};
  const std::vector<Timeline> timelines = bench_timelines(bench, run_bench(bench));
  ASSERT_EQ(timelines.size(), 1U);
  EXPECT_EQ(timelines[0].name, "comet");
}

TEST(BenchTimelines, WithoutRecordingThereIsNoTimeline) {
  BenchCase bench = small_case();
  bench.record = false;
  const std::vector<BenchRow> rows = run_bench(bench);
  EXPECT_FALSE(rows[0].recorded.has_value());
  EXPECT_THROW(bench_timelines(bench, rows), Error);
}

}  // namespace
}  // namespace comet
