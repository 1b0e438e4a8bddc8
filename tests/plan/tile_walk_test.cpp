// SPDX-License-Identifier: Apache-2.0
#include "plan/tile_walk.hpp"

#include <gtest/gtest.h>

#include <set>
#include <utility>

namespace comet {
namespace {

TEST(TileWalk, RowsCutFinishesATileBeforeTheNext) {
  EXPECT_EQ(walk_item(Axis::rows, 0, 3, 4).tile, 0);
  EXPECT_EQ(walk_item(Axis::rows, 3, 3, 4).tile, 0);
  EXPECT_EQ(walk_item(Axis::rows, 3, 3, 4).part, 3);
  EXPECT_EQ(walk_item(Axis::rows, 4, 3, 4).tile, 1);
}

TEST(TileWalk, ColumnsCutFinishesAPanelBeforeTheNext) {
  EXPECT_EQ(walk_item(Axis::columns, 2, 3, 4).part, 0);
  EXPECT_EQ(walk_item(Axis::columns, 2, 3, 4).tile, 2);
  EXPECT_EQ(walk_item(Axis::columns, 3, 3, 4).part, 1);
}

TEST(TileWalk, VisitsEachItemOnce) {
  for (const Axis axis : {Axis::rows, Axis::columns}) {
    std::set<std::pair<int, int>> seen;
    for (int i = 0; i < 35; ++i) {
      const WalkItem item = walk_item(axis, i, 5, 7);
      EXPECT_LT(item.tile, 5);
      EXPECT_LT(item.part, 7);
      seen.insert({item.tile, item.part});
    }
    EXPECT_EQ(seen.size(), 35U);
  }
}

TEST(TileWalk, CombineLeavesTilesOfOwnTokensForTheEnd) {
  constexpr int kOwn = 2;
  constexpr int kTiles = 5;
  constexpr int kPanels = 4;
  std::set<std::pair<int, int>> seen;
  for (int i = 0; i < kTiles * kPanels; ++i) {
    const WalkItem item = combine_walk_item(i, kOwn, kTiles, kPanels);
    EXPECT_EQ(item.tile < kOwn, i >= (kTiles - kOwn) * kPanels) << i;
    seen.insert({item.tile, item.part});
  }
  EXPECT_EQ(seen.size(), std::size_t{kTiles * kPanels});
  EXPECT_EQ(combine_walk_item(0, kOwn, kTiles, kPanels).tile, kOwn);
  EXPECT_EQ(combine_walk_item(2, kOwn, kTiles, kPanels).part, 0) << "panels outermost";
  EXPECT_EQ(combine_walk_item(3, kOwn, kTiles, kPanels).part, 1);
}

TEST(TileWalk, CombineOfOneRankIsAllOwn) {
  const WalkItem item = combine_walk_item(4, 3, 3, 2);
  EXPECT_EQ(item.tile, 1);
  EXPECT_EQ(item.part, 1);
}

}  // namespace
}  // namespace comet
