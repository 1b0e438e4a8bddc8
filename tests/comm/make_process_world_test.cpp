// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "comet/error.hpp"
#include "comet/process_world.hpp"
#include "comm/forked_group.hpp"

namespace comet {
namespace {

ProcessStart start_of(ForkedGroup& group) {
  return {.kind = "started",
          .rank = group.rank(),
          .size = group.size(),
          .all_gather = [&group](const void* in, void* out, std::size_t bytes) {
            group.all_gather(in, out, bytes);
          }};
}

TEST(MakeProcessWorld, RanksAreThoseOfTheGroup) {
  const std::vector<ForkedEnd> ends =
      run_forked(3, [](std::unique_ptr<ForkedGroup> group) -> std::string {
        const std::unique_ptr<World> world =
            make_process_world(start_of(*group), std::chrono::milliseconds(20000));
        const int rank = group->rank();
        group.reset();  // it is not needed any more
        if (world->rank() != rank || world->size() != 3 || world->kind() != "started")
          return "who?";
        if (world->timeout().count() != 20000) return "timeout";
        std::vector<int> all(3);
        world->all_gather(&rank, all.data(), sizeof(rank));
        return fmt::format("{} {} {}", all[0], all[1], all[2]);
      });
  for (const ForkedEnd& end : ends) EXPECT_EQ(end.text, "0 1 2");
}

TEST(MakeProcessWorld, WhatAllGatherThrowsReachesTheCaller) {
  const ProcessStart start{
      .kind = "started", .rank = 0, .size = 2, .all_gather = [](const void*, void*, std::size_t) {
        throw std::runtime_error("the network is down");
      }};
  try {
    make_process_world(start);
    FAIL() << "made";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "the network is down");
  }
}

TEST(MakeProcessWorld, RefusesWhatIsNoGroup) {
  const auto sentence_of = [](const ProcessStart& start, int timeout_ms) -> std::string {
    try {
      make_process_world(start, std::chrono::milliseconds(timeout_ms));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      return error.what();
    }
    return "made";
  };
  const auto nothing = [](const void*, void*, std::size_t) {};
  EXPECT_NE(sentence_of({"k", 2, 2, nothing}, 0).find("rank 2 of 2"), std::string::npos);
  EXPECT_NE(sentence_of({"k", -1, 2, nothing}, 0).find("rank -1 of 2"), std::string::npos);
  EXPECT_NE(sentence_of({"k", 0, 0, nothing}, 0).find("rank 0 of 0"), std::string::npos);
  EXPECT_NE(sentence_of({"k", 0, 1, {}}, 0).find("all_gather: none"), std::string::npos);
  EXPECT_NE(sentence_of({"k", 0, 1, nothing}, -5).find("timeout: -5"), std::string::npos);
}

}  // namespace
}  // namespace comet
