// SPDX-License-Identifier: Apache-2.0
#include "layer/world_runner.hpp"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <csignal>

#include "comet/error.hpp"
#include "comm/forked_group.hpp"
#include "io/expect_error.hpp"

namespace comet {
namespace {

using std::chrono::milliseconds;

std::vector<ForkedEnd> run_worlds(int size, const std::function<std::string(World&)>& body) {
  return run_forked(size, [&](std::unique_ptr<ForkedGroup> group) {
    ProcessWorld world(std::move(group), milliseconds(20000));
    return body(world);
  });
}

std::string thrown_by(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return fmt::format("{}: {}", to_string(error.code()), error.what());
  }
  return "nothing";
}

TEST(WorldRunner, GathersBytesOfAnyLength) {
  const auto body = [](World& world) -> std::string {
    for (const std::size_t most : {0, 1, 9000}) {
      const auto length = [&](int rank) { return most * static_cast<std::size_t>(rank); };
      const std::vector<std::byte> own(length(world.rank()), std::byte(world.rank()));
      const auto all = gather_bytes(world, own);
      for (int rank = 0; rank < world.size(); ++rank) {
        const std::vector<std::byte> expected(length(rank), std::byte(rank));
        if (all.at(static_cast<std::size_t>(rank)) != expected) return "other bytes";
      }
    }
    return {};
  };
  for (const ForkedEnd& end : run_worlds(3, body)) EXPECT_EQ(end.text, "");
  run_local_world(3, {}, [&](World& world) { EXPECT_EQ(body(world), ""); });
}

TEST(WorldRunner, RunsEachProcessesOwnRank) {
  const auto ends = run_worlds(2, [](World& world) {
    std::string text = is_one_process(world) ? "threads" : "processes";
    run_on(world)(2, {}, [&](World& inner) { text += fmt::format(", rank {}", inner.rank()); });
    return text;
  });
  EXPECT_EQ(ends[0].text, "processes, rank 0");
  EXPECT_EQ(ends[1].text, "processes, rank 1");
  run_local_world(2, {}, [](World& world) { EXPECT_TRUE(is_one_process(world)); });
}

TEST(WorldRunner, RefusesWhatTheWorldDoesNotHave) {
  const auto ends = run_worlds(1, [](World& world) {
    const auto nothing = [](World& /*world*/) {};
    return thrown_by([&] { run_on(world)(2, {}, nothing); }) + "\n" +
           thrown_by([&] { run_on(world)(1, {.backend = Backend::cuda}, nothing); }) + "\n" +
           thrown_by([&] { run_on(world)(1, {.link = parse_link("paced:1")}, nothing); });
  });
  EXPECT_EQ(ends[0].text,
            "invalid_argument: [world] forked: 1 ranks are there, 2 are asked for\n"
            "unsupported: [world] forked: layers run on cpu, not on cuda\n"
            "unsupported: [world] link: paced:1, ranks that are processes have native links only");
}

TEST(WorldRunner, GivesTheWorldTheLinkThatABodyIsToHave) {
  run_local_world(2, {}, [](World& world) {
    for (const char* link : {"paced:1", "paced:2", "native"}) {
      run_on(world)(2, {.link = parse_link(link)}, [&](World& inner) {
        EXPECT_EQ(to_string(inner.link()), link);
        EXPECT_EQ(to_string(world.link()), link);
      });
    }
  });
}

// Rank 1 alone throws: the others, which wait for it, get its sentence.
TEST(WorldRunner, WhatOneRankThrowsEndsTheWaitsOfAll) {
  const auto ends = run_worlds(3, [](World& world) {
    return thrown_by([&] {
      run_on(world)(3, {}, [](World& inner) {
        if (inner.rank() == 1) throw Error(ErrorCode::io, "[test] the disk is full");
        inner.barrier();
      });
    });
  });
  EXPECT_EQ(ends[0].text, "peer: [test] the disk is full");
  EXPECT_EQ(ends[1].text, "io: [test] the disk is full");
  EXPECT_EQ(ends[2].text, "peer: [test] the disk is full");
}

// What a rank stumbles over when another has died is not what went wrong.
TEST(WorldRunner, ADeadRankIsNamedBeforeWhatFollowsFromIt) {
  const auto ends = run_worlds(2, [](World& world) -> std::string {
    world.barrier();
    if (world.rank() == 1) ::raise(SIGKILL);
    return thrown_by([&] {
      run_on(world)(2, {}, [](World& /*inner*/) {
        std::this_thread::sleep_for(milliseconds(1));
        throw Error(ErrorCode::capacity, "[test] no memory of rank 1");
      });
    });
  });
  EXPECT_TRUE(ends[0].text.starts_with("peer: [world] rank 1 is gone")) << ends[0].text;
}

}  // namespace
}  // namespace comet
