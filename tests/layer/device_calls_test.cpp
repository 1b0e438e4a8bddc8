// SPDX-License-Identifier: Apache-2.0
// Ranks on CPUs have no GPU to describe, capture or hold up.
#include "layer/device_calls.hpp"

#include <gtest/gtest.h>

#include "comet/error.hpp"
#include "layer/rank_memory.hpp"

namespace comet {
namespace {

TEST(DeviceCalls, OfCpuRanksAreRefused) {
  run_local_world(1, {}, [](World& world) {
    EXPECT_EQ(describe_device(world).device, -1);
    EXPECT_EQ(describe_device(world).l2_bytes, 0);
    EXPECT_THROW(queue_start_line(world), Error);
    bool called = false;
    EXPECT_THROW(CapturedCall(world, [&] { called = true; }), Error);
    EXPECT_FALSE(called);
  });
}

TEST(RankMemory, OfCpuRanksIsTheHosts) {
  run_local_world(2, {}, [](World& world) {
    RankMemory memory(world);
    const int value = 7;
    EXPECT_TRUE(memory.is_host());
    EXPECT_EQ(memory.place(&value, sizeof(value)), &value);
    EXPECT_EQ(memory.place_shared(&value, sizeof(value)), &value);
    int copy = 0;
    void* const reserved = memory.reserve(sizeof(value));
    memory.upload(reserved, &value, sizeof(value));
    memory.download(&copy, reserved, sizeof(value));
    EXPECT_EQ(copy, 7);
  });
}

}  // namespace
}  // namespace comet
