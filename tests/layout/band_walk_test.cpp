// SPDX-License-Identifier: Apache-2.0
// The order of a GPU's items and phases, which kernels and predictions share.
#include "layout/band_walk.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <set>
#include <utility>

namespace comet {
namespace {

TEST(BandWalk, VisitsEachTileAndColumnOnce) {
  for (const int tiles : {1, 15, 16, 17, 40}) {
    for (const int wide : {0, 1, 3, 16}) {
      for (const int narrow : {0, 1}) {
        for (const int band : {4, 8, 16}) {
          std::set<std::pair<int, int>> seen;
          for (int i = 0; i < tiles * (wide + narrow); ++i) {
            const GemmItem item = gemm_item(i, tiles, wide, band);
            EXPECT_LT(item.tile, tiles);
            EXPECT_LT(item.column, wide + narrow);
            EXPECT_EQ(item.column == wide, i >= tiles * wide) << "narrow ones come last";
            seen.insert({item.tile, item.column});
          }
          EXPECT_EQ(seen.size(), static_cast<std::size_t>(tiles * (wide + narrow)));
        }
      }
    }
  }
}

TEST(BandWalk, ABandGoesThroughAllWideColumnsBeforeTheNext) {
  EXPECT_EQ(gemm_item(0, 5, 3, 4).tile, 0);
  EXPECT_EQ(gemm_item(3, 5, 3, 4).tile, 3);
  EXPECT_EQ(gemm_item(4, 5, 3, 4).column, 1);
  EXPECT_EQ(gemm_item(12, 5, 3, 4).tile, 4);
  EXPECT_EQ(gemm_item(12, 5, 3, 4).column, 0);
  EXPECT_EQ(tiles_of_band(16), 4);
  EXPECT_EQ(tiles_of_band(132), 16);
}

TEST(BandWalk, PhasesCoverAllTilesInOrder) {
  for (const int tiles : {1, 5, 8, 37}) {
    for (const int phases : {1, 2, 4, 8}) {
      EXPECT_EQ(phase_begin(tiles, phases, 0), 0);
      EXPECT_EQ(phase_begin(tiles, phases, phases), tiles);
      for (int place = 0; place < tiles; ++place) {
        const int phase = phase_of_place(tiles, phases, place);
        EXPECT_LE(phase_begin(tiles, phases, phase), place);
        EXPECT_GT(phase_begin(tiles, phases, phase + 1), place);
      }
    }
  }
}

}  // namespace
}  // namespace comet
