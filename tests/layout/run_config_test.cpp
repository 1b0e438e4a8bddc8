// SPDX-License-Identifier: Apache-2.0
#include "layout/run_config.hpp"

#include <gtest/gtest.h>

#include <set>

namespace comet {
namespace {

TEST(RunConfig, EveryFieldChangesTheHash) {
  const MoeDesc desc{
      .num_experts = 4, .topk = 2, .hidden = 64, .intermediate = 64, .max_tokens = 8};
  const LayerDims dims{.block_m = 16, .block_n = 32};
  const RunConfig config{.schedule = 3, .groups = 2, .panel = 32, .chunk = 8};
  std::set<std::uint64_t> hashes = {config_hash(desc, {.ep = 2}, dims, config, 0, 0)};
  std::size_t changes = 1;
  const auto expect_new = [&](auto change) {
    MoeDesc other_desc = desc;
    LayerDims other_dims = dims;
    RunConfig other = config;
    ParallelDesc parallel{.ep = 2};
    change(other_desc, other_dims, other, parallel);
    hashes.insert(config_hash(other_desc, parallel, other_dims, other, 0, 0));
    EXPECT_EQ(hashes.size(), ++changes);
  };
  expect_new([](auto& d, auto&, auto&, auto&) { d.num_experts = 5; });
  expect_new([](auto& d, auto&, auto&, auto&) { d.max_tokens = 9; });
  expect_new([](auto& d, auto&, auto&, auto&) { d.gated = false; });
  expect_new([](auto& d, auto&, auto&, auto&) { d.expert_owner = {0, 0, 1, 1}; });
  expect_new([](auto&, auto& b, auto&, auto&) { b.block_m = 32; });
  expect_new([](auto&, auto&, auto& c, auto&) { c.groups = 3; });
  expect_new([](auto&, auto&, auto& c, auto&) { c.panel = 64; });
  expect_new([](auto&, auto&, auto& c, auto&) { c.chunk = 9; });
  expect_new([](auto&, auto&, auto& c, auto&) { c.schedule = 1; });
  expect_new([](auto&, auto&, auto&, auto& p) { p = {.ep = 1, .tp = 2}; });
}

}  // namespace
}  // namespace comet
