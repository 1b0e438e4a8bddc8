// SPDX-License-Identifier: Apache-2.0
#include "layout/layer_dims.hpp"

#include <gtest/gtest.h>

namespace comet {
namespace {

TEST(LayerDims, CutsExpertsAndIntermediate) {
  const MoeDesc desc{.num_experts = 5,
                     .topk = 2,
                     .hidden = 64,
                     .intermediate = 48,
                     .max_tokens = 10,
                     .dtype = DType::bf16};
  const LayerDims dims = make_layer_dims(desc, {.ep = 2, .tp = 3}, 4);
  EXPECT_EQ(dims.world, 6);
  EXPECT_EQ(dims.num_local, 2) << "EP rank 1 of 2 holds two of five experts";
  EXPECT_EQ(dims.inter_local, 16);
  EXPECT_EQ(dims.row_bytes(), 128);
}

TEST(LayerDims, TilesShrinkWithTheRowsOfAnExpert) {
  LayerDims dims{.world = 4,
                 .num_experts = 64,
                 .topk = 4,
                 .hidden = 2048,
                 .inter_local = 1408,
                 .max_tokens = 512};
  choose_tile(dims);
  EXPECT_EQ(dims.block_m, 64) << "128 rows per expert";
  EXPECT_EQ(dims.block_n, 256) << "1408 columns need 6 tiles of at least 235";
  EXPECT_EQ(dims.panel_n, 256) << "an eighth of H";
  dims.block_m = 0;
  dims.max_tokens = 1;
  choose_tile(dims);
  EXPECT_EQ(dims.block_m, 16);
  dims.max_tokens = 1 << 20;
  choose_tile(dims);
  EXPECT_EQ(dims.block_m, 16) << "a given tile stays";
}

TEST(LayerDims, TileHeightWeighsRateAgainstTails) {
  const auto height = [](std::int64_t rows_per_expert) {
    LayerDims dims{.num_experts = 1, .topk = 1, .hidden = 64, .max_tokens = rows_per_expert};
    choose_tile(dims);
    return dims.block_m;
  };
  EXPECT_EQ(height(0), 16);
  EXPECT_EQ(height(32), 32);
  EXPECT_EQ(height(256), 64) << "as good as 128, and ready earlier";
  EXPECT_EQ(height(1024), 128);
  EXPECT_EQ(height(1 << 16), 256);
}

TEST(LayerDims, PanelsAreAnEighthOfHWithinTheTile) {
  const auto width = [](std::int64_t hidden, std::int64_t block_n) {
    LayerDims dims{.num_experts = 1, .topk = 1, .hidden = hidden, .inter_local = 1024};
    dims.block_n = block_n;
    choose_tile(dims);
    return dims.panel_n;
  };
  EXPECT_EQ(width(512, 0), 64);
  EXPECT_EQ(width(64, 0), 32) << "not narrower than 32";
  EXPECT_EQ(width(64, 16), 16) << "nor wider than the tile";
  EXPECT_EQ(width(4096, 0), 256);
}

TEST(LayerDims, LocalIndicesCountPerOwner) {
  EXPECT_EQ(local_indices({1, 0, 1, 1, 0}, 2), (std::vector<std::int32_t>{0, 0, 1, 2, 1}));
}

}  // namespace
}  // namespace comet
