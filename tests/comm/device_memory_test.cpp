// SPDX-License-Identifier: Apache-2.0
// Ranks whose GPUs have less memory than others' are named before anybody allocates.
#include "comm/device_memory.hpp"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "comet/error.hpp"
#include "comm/forked_group.hpp"

namespace comet {
namespace {

std::string said_of(const std::vector<DeviceMemory>& ranks) {
  try {
    check_memory(ranks);
  } catch (const Error& error) {
    return fmt::format("{}: {}", to_string(error.code()), error.what());
  }
  return "";
}

TEST(DeviceMemory, SufficesWhereEachGpuHasWhatItsRanksNeed) {
  EXPECT_EQ(said_of({}), "");
  EXPECT_EQ(said_of({{.needed = 10, .free = 10}, {.needed = 10, .free = 11}}), "");
  EXPECT_EQ(said_of({{.needed = 0, .free = 0}, {.needed = 0, .free = 5}}), "");
}

TEST(DeviceMemory, NamesTheLowestRankThatLacksSome) {
  EXPECT_EQ(
      said_of({{.needed = 10, .free = 99}, {.needed = 20, .free = 19}, {20, 1}}),
      "capacity: [world] out of memory: rank 1's GPU has 19 bytes free, memory that is shared "
      "with all ranks takes 20");
}

// Each knows its own GPU only.
TEST(DeviceMemory, IsTheSameErrorOnAllRanksOfAWorld) {
  const auto ends = run_forked(3, [](std::unique_ptr<ForkedGroup> group) -> std::string {
    ProcessWorld world(std::move(group), std::chrono::milliseconds(20000));
    const DeviceMemory own{.needed = 1000, .free = world.rank() == 2 ? 999U : 5000U};
    std::vector<DeviceMemory> all(3);
    world.all_gather(&own, all.data(), sizeof(own));
    const std::string said = said_of(all);
    world.barrier();  // the world is good
    return said;
  });
  for (const ForkedEnd& end : ends) {
    EXPECT_EQ(end.text,
              "capacity: [world] out of memory: rank 2's GPU has 999 bytes free, memory that is "
              "shared with all ranks takes 1000");
  }
}

}  // namespace
}  // namespace comet
