// SPDX-License-Identifier: Apache-2.0
// Which row an event lies in, rows without overlap, and what workers' time went into.
#include "trace/rows.hpp"

#include <gtest/gtest.h>

#include "comet/error.hpp"
#include "trace/make_events.hpp"
#include "trace/shares.hpp"

namespace comet {
namespace {

using enum TraceKind;

std::vector<std::int64_t> begins(const TimelineRow& row) {
  std::vector<std::int64_t> times;
  for (const TraceEvent& event : row.events) times.push_back(event.begin_ns - 1'000'000);
  return times;
}

TEST(Rows, WorkersThenBothDirectionsOfTheLink) {
  const Timeline timeline = small_timeline("comet");
  const auto zero = rows_of(timeline, 0), one = rows_of(timeline, 1);
  ASSERT_EQ(zero.size(), 4U);
  ASSERT_EQ(one.size(), 4U);
  EXPECT_EQ(row_name(zero[1]), "worker 1");
  EXPECT_EQ(row_name(zero[2]), "link in");
  EXPECT_EQ(row_name(zero[3]), "link out");
  EXPECT_EQ(begins(zero[0]), (std::vector<std::int64_t>{0, 50, 100, 700}));
  EXPECT_EQ(begins(zero[1]), (std::vector<std::int64_t>{100, 300}));
  EXPECT_EQ(begins(zero[2]), (std::vector<std::int64_t>{120, 200, 600}));
  EXPECT_TRUE(zero[3].events.empty());
  EXPECT_TRUE(one[2].events.empty());
  EXPECT_EQ(begins(one[3]), (std::vector<std::int64_t>{120, 200, 600}));
}

TEST(Rows, WithoutTransfersThereIsNoLink) {
  EXPECT_EQ(rows_of(make_timeline("comet", 1, 3, 10), 0).size(), 3U);
}

TEST(Rows, OverlapIsSpreadOverRows) {
  const auto rows = without_overlap(rows_of(small_timeline("comet"), 0)[2]);
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(begins(rows[0]), (std::vector<std::int64_t>{120, 600}));
  EXPECT_EQ(begins(rows[1]), (std::vector<std::int64_t>{200}));
}

TEST(Rows, BusyTimeCountsOverlapOnce) {
  const auto rows = rows_of(small_timeline("comet"), 0);
  EXPECT_EQ(busy_ns(rows[2]), 300 - 120 + 100);
  EXPECT_EQ(busy_ns(rows[3]), 0);
}

TEST(Rows, EventsThatDoNotFitAreRefused) {
  const auto refuses = [](const TraceEvent& event) {
    const Timeline timeline = make_timeline("comet", 2, 2, 100, {event});
    EXPECT_THROW(rows_of(timeline, 0), Error);
  };
  refuses(make_event(first_gemm, 2, 0, 0, 1));
  refuses(make_event(first_gemm, 0, 2, 0, 1));
  refuses(make_event(first_gemm, 0, -1, 0, 1));
  refuses(make_event(link_pull, 0, 0, 0, 1));
  refuses(make_event(link_push, 0, 0, 0, 1, 2));
  refuses(make_event(wait, 0, 0, 2, 1));
  refuses(make_event(wait, 0, 0, -1, 1));
  refuses(make_event(wait, 0, 0, 50, 101));
  EXPECT_NO_THROW(rows_of(make_timeline("comet", 2, 2, 100, {make_event(wait, 1, 1, 0, 100)}), 0));
}

TEST(Rows, RolesNameWhatAWorkerBeginsWith) {
  Timeline timeline = make_timeline("comet", 1, 4, 10);
  EXPECT_EQ(role_of(timeline, 3), "worker 3");
  timeline.n_c_dispatch = 2;
  timeline.n_c_combine = 1;
  EXPECT_EQ(role_of(timeline, 1), "worker 1 (compute)");
  EXPECT_EQ(role_of(timeline, 2), "worker 2 (communication in dispatch)");
  EXPECT_EQ(role_of(timeline, 3), "worker 3 (communication)");
}

TEST(Shares, SumToOneAndKnowTheLink) {
  const WorkerShares shares = worker_shares(small_timeline("comet"));
  EXPECT_DOUBLE_EQ(shares.compute, 900.0 / 4000);
  EXPECT_DOUBLE_EQ(shares.copy, 50.0 / 4000);
  EXPECT_DOUBLE_EQ(shares.plan, 100.0 / 4000);
  EXPECT_DOUBLE_EQ(shares.compute + shares.copy + shares.plan + shares.wait, 1);
  EXPECT_DOUBLE_EQ(shares.busiest_link, 280.0 / 1000);
}

TEST(Shares, NoTimeIsAllWaiting) {
  const WorkerShares shares = worker_shares(make_timeline("comet", 2, 2, 0));
  EXPECT_EQ(shares.wait, 1);
  EXPECT_EQ(shares.busiest_link, 0);
}

TEST(TimelineSet, SpeedupIsOverSequentialIfShown) {
  TimelineSet set;
  EXPECT_EQ(set.yardstick_ns(), 0);
  set.timelines = {make_timeline("comet", 1, 1, 50), make_timeline("sequential", 1, 1, 100)};
  EXPECT_DOUBLE_EQ(set.speedup(set.timelines[0]), 2);
  EXPECT_DOUBLE_EQ(set.speedup(set.timelines[1]), 1);
  set.timelines[1].name = "pipelined";
  EXPECT_DOUBLE_EQ(set.speedup(set.timelines[1]), 0.5);
}

}  // namespace
}  // namespace comet
