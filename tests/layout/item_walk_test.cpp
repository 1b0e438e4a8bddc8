// SPDX-License-Identifier: Apache-2.0
// The order of both products' items in the fused schedule.
#include "layout/item_walk.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace comet {
namespace {

constexpr int kTile = 256;

struct Case {
  WalkShape shape;
  Panels panels;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const int tiles : {0, 1, 2, 5, 16, 37}) {
    for (const int phases : {1, 2, 3, 8, 64}) {
      for (const int blocks : {1, 3, 16, 132}) {
        for (const int width : {1, 2, 8}) {
          for (const int kind : {0, 1, 2, 3}) {
            const int columns = 7;
            const bool narrow = (kind & 1) != 0;
            all.push_back({{.num_tiles = tiles,
                            .phases = phases,
                            .first_columns = columns,
                            .first_wide = columns - (narrow ? 1 : 0),
                            .second_columns = 8,
                            .num_blocks = blocks,
                            .together = kind < 2 ? 1 : 2},
                           Panels(8 * kTile, width * kTile, kTile)});
          }
        }
      }
    }
  }
  return all;
}

std::string text_of(const Case& of) {
  return std::to_string(of.shape.num_tiles) + " tiles, " + std::to_string(of.shape.phases) +
         " phases, " + std::to_string(of.shape.num_blocks) + " blocks, " +
         std::to_string(of.panels.count()) + " panels, " + std::to_string(of.shape.together) +
         " together";
}

// Those of tickets begin, begin + step and so on.
std::vector<ProductItem> items_of(const Case& of, std::uint32_t begin = 0, std::uint32_t step = 1) {
  ItemWalk walk(of.shape, of.panels, kTile);
  std::vector<ProductItem> items;
  ProductItem item;
  for (std::uint32_t ticket = begin; walk.find(ticket, item); ticket += step) items.push_back(item);
  EXPECT_FALSE(walk.find(1U << 30, item));
  return items;
}

int phase_of(const Case& of, const ProductItem& item) {
  return phase_of_place(of.shape.num_tiles, of.shape.phases, item.place);
}

TEST(ItemWalk, VisitsEachItemOfBothProductsOnce) {
  for (const Case& of : cases()) {
    SCOPED_TRACE(text_of(of));
    std::vector<std::tuple<bool, int, int>> seen;
    for (const ProductItem& item : items_of(of)) {
      if (!item.is_copy) seen.emplace_back(item.is_second, item.place, item.column);
    }
    std::sort(seen.begin(), seen.end());
    std::vector<std::tuple<bool, int, int>> wanted;
    for (const bool is_second : {false, true}) {
      for (int place = 0; place < of.shape.num_tiles; ++place) {
        const int columns = is_second ? of.shape.second_columns : of.shape.first_columns;
        for (int column = 0; column < columns; ++column) {
          wanted.emplace_back(is_second, place, column);
        }
      }
    }
    ASSERT_EQ(seen, wanted);
  }
}

TEST(ItemWalk, WhatIsTakenUpTogetherIsOfOneProduct) {
  for (const Case& of : cases()) {
    SCOPED_TRACE(text_of(of));
    const std::vector<ProductItem> items = items_of(of);
    ASSERT_EQ(items.size() % static_cast<std::size_t>(of.shape.together), 0U);
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i % static_cast<std::size_t>(of.shape.together) == 0) {
        ASSERT_FALSE(items[i].is_copy);
        continue;
      }
      ASSERT_EQ(items[i].is_second, items[i - 1].is_second);
      ASSERT_EQ(items[i].is_copy,
                items[i].place == items[i - 1].place && items[i].column == items[i - 1].column);
    }
  }
}

// Pairs share the weights of their column: bands of an even number of tiles have no others.
TEST(ItemWalk, PairsAreOfOneColumnInWholeBands) {
  for (const Case& of : cases()) {
    if (of.shape.together != 2 || of.shape.phases != 1 || of.shape.num_tiles != 16) continue;
    SCOPED_TRACE(text_of(of));
    const std::vector<ProductItem> items = items_of(of);
    for (std::size_t i = 0; i < items.size(); i += 2) {
      ASSERT_EQ(items[i].column, items[i + 1].column);
    }
  }
}

// Who waits for an item has a later ticket: no wait is for a block that waits itself.
TEST(ItemWalk, ThePhasesFirstProductComesBeforeItsSecond) {
  for (const Case& of : cases()) {
    SCOPED_TRACE(text_of(of));
    std::vector<int> left(static_cast<std::size_t>(of.shape.num_tiles), of.shape.first_columns);
    for (const ProductItem& item : items_of(of)) {
      if (item.is_second) {
        ASSERT_EQ(left[static_cast<std::size_t>(item.place)], 0);
      } else if (!item.is_copy) {
        --left[static_cast<std::size_t>(item.place)];
      }
    }
  }
}

TEST(ItemWalk, APhaseEndsBeforeTheNextBegins) {
  for (const Case& of : cases()) {
    SCOPED_TRACE(text_of(of));
    std::pair<int, bool> last = {0, false};
    for (const ProductItem& item : items_of(of)) {
      const std::pair<int, bool> here = {phase_of(of, item), item.is_second};
      ASSERT_LE(last, here);
      last = here;
    }
  }
}

TEST(ItemWalk, FirstProductsGoByBandsAndSecondOnesByPanels) {
  for (const Case& of : cases()) {
    SCOPED_TRACE(text_of(of));
    int firsts = 0;
    int phase = 0;
    int panel = 0;
    for (const ProductItem& item : items_of(of)) {
      if (item.is_second) {
        const int its_panel = of.panels.of(item.column * kTile);
        const int its_phase = phase_of(of, item);
        ASSERT_TRUE(its_phase > phase || (its_phase == phase && its_panel >= panel));
        phase = its_phase;
        panel = its_panel;
        continue;
      }
      if (item.is_copy) continue;
      const int its_phase =
          phase_of_place(of.shape.num_tiles, of.shape.phases, firsts / of.shape.first_columns);
      const int begin = phase_begin(of.shape.num_tiles, of.shape.phases, its_phase);
      const int tiles = phase_begin(of.shape.num_tiles, of.shape.phases, its_phase + 1) - begin;
      const GemmItem wanted = gemm_item(firsts - begin * of.shape.first_columns, tiles,
                                        of.shape.first_wide, tiles_of_band(of.shape.num_blocks));
      ASSERT_EQ(item.place, begin + wanted.tile);
      ASSERT_EQ(item.column, wanted.column);
      ++firsts;
    }
  }
}

TEST(ItemWalk, ABlockFindsTheItemsOfItsTickets) {
  for (const Case& of : cases()) {
    SCOPED_TRACE(text_of(of));
    const std::vector<ProductItem> all = items_of(of);
    for (const std::uint32_t step : {2U, 5U, 131U}) {
      const std::vector<ProductItem> some = items_of(of, 1, step);
      ASSERT_EQ(some.size(), all.size() < 2 ? 0 : (all.size() - 2) / step + 1);
      for (std::size_t i = 0; i < some.size(); ++i) {
        const ProductItem& wanted = all[1 + i * step];
        ASSERT_EQ(some[i].is_second, wanted.is_second);
        ASSERT_EQ(some[i].place, wanted.place);
        ASSERT_EQ(some[i].column, wanted.column);
      }
    }
  }
}

TEST(ItemWalk, KnowsTheFirstTicketOfASecondProduct) {
  for (const Case& of : cases()) {
    // Tiles fewer than phases leave phases without any; the first is among them.
    if (of.shape.num_tiles < of.shape.phases) continue;
    SCOPED_TRACE(text_of(of));
    const std::vector<ProductItem> items = items_of(of);
    const std::uint32_t first = ItemWalk(of.shape, of.panels, kTile).first_of_second();
    ASSERT_LT(first, items.size());
    EXPECT_TRUE(items[first].is_second);
    EXPECT_TRUE(first == 0 || !items[first - 1].is_second);
  }
}

}  // namespace
}  // namespace comet
