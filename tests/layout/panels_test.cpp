// SPDX-License-Identifier: Apache-2.0
// Parts of columns: panels cover all of them once, and the last is narrow.
#include "layout/panels.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace comet {
namespace {

std::vector<std::int64_t> widths(const Panels& panels) {
  std::vector<std::int64_t> result;
  for (std::int32_t panel = 0; panel < panels.count(); ++panel) {
    const ColumnRange columns = panels.columns(panel);
    result.push_back(columns.end - columns.begin);
  }
  return result;
}

TEST(ColumnRange, OfTheLastPartIsNarrower) {
  EXPECT_EQ(column_part(100, 32, 3).begin, 96);
  EXPECT_EQ(column_part(100, 32, 3).end, 100);
}

TEST(Panels, TheLastIsTwoIfItIsWiderThanATile) {
  EXPECT_EQ(widths({2048, 512, 256}), (std::vector<std::int64_t>{512, 512, 512, 256, 256}));
  EXPECT_EQ(widths({4096, 1024, 256}), (std::vector<std::int64_t>{1024, 1024, 1024, 512, 512}));
  EXPECT_EQ(widths({2048, 2048, 256}), (std::vector<std::int64_t>{1024, 1024}));
  EXPECT_EQ(widths({1032, 768, 256}), (std::vector<std::int64_t>{768, 256, 8}));
  EXPECT_EQ(widths({1536, 768, 256}), (std::vector<std::int64_t>{768, 512, 256}));
}

TEST(Panels, OfATileStayWhole) {
  EXPECT_EQ(widths({1024, 256, 256}), (std::vector<std::int64_t>{256, 256, 256, 256}));
  EXPECT_EQ(widths({1000, 256, 256}), (std::vector<std::int64_t>{256, 256, 256, 232}));
  EXPECT_EQ(widths({768, 512, 256}), (std::vector<std::int64_t>{512, 256}));
  EXPECT_EQ(widths({8, 256, 256}), (std::vector<std::int64_t>{8}));
}

TEST(Panels, CoverAllColumnsByWholeTiles) {
  for (std::int64_t tile : {16, 256}) {
    for (std::int64_t hidden = 8; hidden <= 9 * tile; hidden += 8) {
      for (std::int64_t width = tile; width < hidden + tile; width += tile) {
        const Panels panels(hidden, width, tile);
        EXPECT_LE(panels.count(), ceil_div(hidden, tile));
        std::int64_t end = 0;
        for (std::int32_t panel = 0; panel < panels.count(); ++panel) {
          const ColumnRange columns = panels.columns(panel);
          ASSERT_EQ(columns.begin, end);
          ASSERT_EQ(columns.begin % tile, 0);
          ASSERT_GT(columns.end, columns.begin);
          ASSERT_EQ(panels.of(static_cast<std::int32_t>(columns.begin)), panel);
          ASSERT_EQ(panels.of(static_cast<std::int32_t>(columns.end - 1)), panel);
          end = columns.end;
        }
        ASSERT_EQ(end, hidden);
      }
    }
  }
}

}  // namespace
}  // namespace comet
