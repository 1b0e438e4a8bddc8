// SPDX-License-Identifier: Apache-2.0
#include "layout/workspace_layout.hpp"

#include <gtest/gtest.h>

#include <set>

#include "layout/token_blocks.hpp"

namespace comet {
namespace {

TEST(WorkspaceLayout, RegionsDoNotOverlapAndAreAligned) {
  const LayerDims dims{.world = 3,
                       .topk = 2,
                       .hidden = 40,
                       .max_tokens = 70,
                       .element_bytes = 2,
                       .block_n = 16,
                       .panel_n = 16};
  const WorkspaceSizes sizes = workspace_sizes(dims);
  EXPECT_EQ(sizes.blocks, 2);
  EXPECT_EQ(sizes.slots, 3 * 3 * 2);
  EXPECT_EQ(sizes.combine_bytes, 3 * 70 * 40 * 2);
  const WorkspaceLayout layout = make_workspace_layout(sizes);
  const std::int64_t begins[] = {layout.header[0],  layout.header[1], layout.published,
                                 layout.copied,     layout.sent,      layout.combine_slots,
                                 layout.ids[0],     layout.ids[1],    layout.weights[0],
                                 layout.weights[1], layout.x,         layout.combine,
                                 layout.bytes};
  const std::int64_t lengths[] = {
      sizeof(CallHeader), sizeof(CallHeader), 3 * 4,         3 * 4,
      3 * 2 * 4,          sizes.slots * 4,    sizes.ids * 2, sizes.ids * 2,
      sizes.ids * 4,      sizes.ids * 4,      sizes.x_bytes, sizes.combine_bytes};
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(begins[i] % 256, 0);
    EXPECT_LE(begins[i] + lengths[i], begins[i + 1]) << i;
  }
}

TEST(WorkspaceLayout, WithoutTokensThereIsASignalOfEachSource) {
  const LayerDims dims{.world = 3, .topk = 2, .hidden = 40, .element_bytes = 2, .panel_n = 16};
  EXPECT_GE(workspace_sizes(dims).slots, 3);
}

TEST(WorkspaceLayout, SizesGrowToTheLargestLayer) {
  WorkspaceSizes a{.world = 2, .ids = 10, .x_bytes = 100, .combine_bytes = 200, .slots = 4};
  const WorkspaceSizes b{.world = 2, .ids = 5, .x_bytes = 300, .combine_bytes = 600, .slots = 2};
  EXPECT_FALSE(a.covers(b));
  a.grow_to(b);
  EXPECT_TRUE(a.covers(b));
  EXPECT_EQ(a.ids, 10);
  EXPECT_EQ(a.x_bytes, 300);
}

TEST(WorkspaceLayout, SlotsOfOneCallAreDistinct) {
  std::set<std::int64_t> seen;
  for (int source = 0; source < 3; ++source) {
    for (int panel = 0; panel < 4; ++panel) {
      for (int block = 0; block < 5; ++block) {
        const std::int64_t slot = combine_slot(source, panel, block, 4, 5);
        EXPECT_TRUE(seen.insert(slot).second);
        EXPECT_LT(slot, 3 * 4 * 5);
      }
    }
  }
}

TEST(TokenBlocks, GroupsAreRangesOfWholeBlocks) {
  EXPECT_EQ(num_token_blocks(0), 0);
  EXPECT_EQ(num_token_blocks(65), 2);
  EXPECT_EQ(group_block_begin(5, 2, 0), 0);
  EXPECT_EQ(group_block_begin(5, 2, 1), 2);
  EXPECT_EQ(group_block_begin(5, 2, 2), 5);
  EXPECT_EQ(group_block_begin(1, 4, 3), 0) << "the first groups of a short rank are empty";
  EXPECT_EQ(block_tokens(70, 1).end, 70);
}

}  // namespace
}  // namespace comet
