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
  EXPECT_EQ(dims.block_n, 256);
  dims.block_m = 0;
  dims.max_tokens = 1;
  choose_tile(dims);
  EXPECT_EQ(dims.block_m, 16);
  dims.max_tokens = 1 << 20;
  choose_tile(dims);
  EXPECT_EQ(dims.block_m, 16) << "a given tile stays";
}

TEST(LayerDims, LocalIndicesCountPerOwner) {
  EXPECT_EQ(local_indices({1, 0, 1, 1, 0}, 2), (std::vector<std::int32_t>{0, 0, 1, 2, 1}));
}

}  // namespace
}  // namespace comet
