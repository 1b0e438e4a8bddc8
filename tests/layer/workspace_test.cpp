// SPDX-License-Identifier: Apache-2.0
#include "layer/workspace.hpp"

#include <gtest/gtest.h>

namespace comet {
namespace {

TEST(Workspace, GrowsForLargerLayersOnly) {
  run_local_world(2, {}, [](World& world) {
    Workspace workspace(world);
    const WorkspaceSizes small{
        .world = 2, .ids = 8, .x_bytes = 64, .combine_bytes = 128, .slots = 2};
    workspace.reserve(small);
    const std::byte* first = workspace.local();
    EXPECT_EQ(workspace.peers()[world.rank()], first);
    workspace.reserve({.world = 2, .ids = 4, .x_bytes = 64, .combine_bytes = 128, .slots = 1});
    EXPECT_EQ(workspace.local(), first);
    workspace.reserve({.world = 2, .ids = 4, .x_bytes = 8192, .combine_bytes = 16384, .slots = 1});
    EXPECT_NE(workspace.local(), first);
    EXPECT_GE(workspace.layout().bytes, 8192 + 16384);
    EXPECT_EQ(workspace.next_layer_id(), 0);
    EXPECT_EQ(workspace.next_layer_id(), 1);
    world.barrier();
  });
}

}  // namespace
}  // namespace comet
