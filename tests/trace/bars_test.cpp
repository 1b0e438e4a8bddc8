// SPDX-License-Identifier: Apache-2.0
// Merging: wide events stay alone, tiny neighbours become one, and nothing is lost.
#include "trace/bars.hpp"

#include <gtest/gtest.h>

#include "trace/make_events.hpp"

namespace comet {
namespace {

using enum TraceKind;

TimelineRow row_with(std::vector<TraceEvent> events) {
  TimelineRow row;
  row.events = std::move(events);
  return row;
}

int total(const std::vector<Bar>& bars) {
  int count = 0;
  for (const Bar& bar : bars) count += bar.count;
  return count;
}

constexpr BarScale kScale{.zero_ns = 0, .ns_per_px = 100, .least_px = 0.5};  // 50 ns are enough

TEST(Bars, NoEventsNoBars) { EXPECT_TRUE(bars_of(row_with({}), kScale).empty()); }

TEST(Bars, WideEventsStayAlone) {
  const auto bars = bars_of(
      row_with({make_event(wait, 0, 0, 0, 50), make_event(first_gemm, 0, 0, 50, 250)}), kScale);
  ASSERT_EQ(bars.size(), 2U);
  EXPECT_EQ(bars[0].count, 1);
  EXPECT_EQ(bars[1].event.kind, first_gemm);
  EXPECT_DOUBLE_EQ(bars[1].begin_px, 0.5);
  EXPECT_DOUBLE_EQ(bars[1].end_px, 2.5);
}

TEST(Bars, TinyNeighboursBecomeOneOfTheKindWithMostTime) {
  const auto bars =
      bars_of(row_with({make_event(wait, 0, 0, 0, 10), make_event(first_gemm, 0, 0, 10, 22),
                        make_event(wait, 0, 0, 22, 30)}),
              kScale);
  ASSERT_EQ(bars.size(), 1U);
  EXPECT_EQ(bars[0].count, 3);
  EXPECT_EQ(bars[0].event.kind, wait);
  EXPECT_EQ(bars[0].event.begin_ns, 0);
  EXPECT_DOUBLE_EQ(bars[0].end_px, 0.3);
}

TEST(Bars, AGapOrAWideEventEndsTheMerging) {
  const auto bars =
      bars_of(row_with({make_event(wait, 0, 0, 0, 10), make_event(wait, 0, 0, 70, 80),
                        make_event(first_gemm, 0, 0, 80, 180), make_event(wait, 0, 0, 180, 190)}),
              kScale);
  ASSERT_EQ(bars.size(), 4U);
  EXPECT_EQ(total(bars), 4);
}

TEST(Bars, WaitsInARowAreOneWait) {
  const auto bars =
      bars_of(row_with({make_event(wait, 0, 0, 0, 100), make_event(wait, 0, 0, 101, 110),
                        make_event(wait, 0, 0, 112, 300), make_event(first_gemm, 0, 0, 300, 400),
                        make_event(first_gemm, 0, 0, 400, 500)}),
              kScale);
  ASSERT_EQ(bars.size(), 3U);
  EXPECT_EQ(bars[0].count, 3);
  EXPECT_DOUBLE_EQ(bars[0].end_px, 3);
}

TEST(Bars, ManyTinyEventsAreBoundedByPixelsAndNoneIsLost) {
  std::vector<TraceEvent> events;
  for (int i = 0; i < 100'000; ++i) {
    events.push_back(make_event(i % 2 == 0 ? wait : first_gemm, 0, 0, i, i + 1));
  }
  const auto bars = bars_of(row_with(events), kScale);  // 1000 pixels
  EXPECT_EQ(total(bars), 100'000);
  EXPECT_LE(bars.size(), 2001U);
  EXPECT_GE(bars.size(), 1000U);
  for (std::size_t i = 1; i < bars.size(); ++i) {
    EXPECT_GE(bars[i].begin_px, bars[i - 1].end_px - 1e-9);
  }
}

TEST(Bars, EventsWithoutLengthHaveAKind) {
  const auto bars = bars_of(row_with({make_event(home_sum, 0, 0, 30, 30)}), kScale);
  ASSERT_EQ(bars.size(), 1U);
  EXPECT_EQ(bars[0].event.kind, home_sum);
}

TEST(Bars, OverlapIsCutAndTheHiddenIsLeftOut) {
  const auto bars = bars_of(
      row_with({make_event(link_pull, 0, 0, 0, 200, 1), make_event(link_push, 0, 0, 50, 100, 1),
                make_event(link_push, 0, 0, 100, 300, 1)}),
      kScale);
  ASSERT_EQ(bars.size(), 2U);
  EXPECT_DOUBLE_EQ(bars[1].begin_px, 2);
  EXPECT_DOUBLE_EQ(bars[1].end_px, 3);
}

}  // namespace
}  // namespace comet
