// SPDX-License-Identifier: Apache-2.0
// Recovery: ranks meet, the last one resets, epochs go on above all used, and missing ranks are
// named.
#include "comm/local/recovery.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "comet/error.hpp"
#include "comet/world.hpp"

namespace comet {
namespace {

using std::chrono::milliseconds;
constexpr auto kNoReset = [](std::uint32_t) {};

WorldView view_of(int rank, std::uint32_t epoch, milliseconds timeout = milliseconds(10'000)) {
  WorldView view;
  view.rank = rank;
  view.epoch = epoch;
  view.timeout = timeout;
  return view;
}

template <typename Body>
void on_ranks(int size, const Body& body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) threads.emplace_back([&body, rank] { body(rank); });
  for (std::thread& thread : threads) thread.join();
}

// What meet throws; it must be a timeout.
std::string expiry_of(Recovery& recovery, const WorldView& view) {
  try {
    recovery.meet(view, kNoReset);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::timeout);
    return error.what();
  }
  return "met";
}

TEST(Recovery, TheLatestEpochRulesAndIsReset) {
  Recovery recovery(4);
  std::vector<std::uint32_t> bases(4), resets;
  on_ranks(4, [&](int rank) {
    bases[rank] = recovery.meet(view_of(rank, rank == 2 ? 8U : 7U),
                                [&](std::uint32_t epoch) { resets.push_back(epoch); });
  });
  EXPECT_EQ(bases, std::vector<std::uint32_t>(4, 8));
  EXPECT_EQ(resets, std::vector<std::uint32_t>{8});
}

TEST(Recovery, EpochsCompareAcrossTheWrap) {
  Recovery recovery(2);
  std::vector<std::uint32_t> bases(2);
  on_ranks(2, [&](int rank) {
    bases[rank] = recovery.meet(view_of(rank, rank == 0 ? 0xffffffffU : 0U), kNoReset);
  });
  EXPECT_EQ(bases, std::vector<std::uint32_t>(2, 0));
}

TEST(Recovery, NobodyIsLetGoBeforeTheReset) {
  Recovery recovery(3);
  std::atomic<int> num_resets = 0;
  on_ranks(3, [&](int rank) {
    for (int round = 1; round <= 200; ++round) {
      recovery.meet(view_of(rank, 1), [&](std::uint32_t) { ++num_resets; });
      // The next reset needs this rank.
      EXPECT_EQ(num_resets, round) << "rank " << rank;
      recovery.meet(view_of(rank, 1), kNoReset);
    }
  });
}

TEST(Recovery, AWorldOfOneMeetsAtOnce) {
  Recovery recovery(1);
  std::uint32_t reset = 0;
  EXPECT_EQ(recovery.meet(view_of(0, 3), [&](std::uint32_t epoch) { reset = epoch; }), 3U);
  EXPECT_EQ(reset, 3U);
}

TEST(Recovery, MissingRanksAreNamed) {
  Recovery recovery(4);
  EXPECT_EQ(expiry_of(recovery, view_of(1, 0, milliseconds(20))),
            "[world] rank 1 waited 20 ms in recover for ranks 0, 2, 3");
}

// Ranks 0 and 1 do not wait for the same time; rank 0, which gave up first, is not missing.
TEST(Recovery, WhoCameAndGaveUpIsNotNamed) {
  Recovery recovery(3);
  std::vector<std::string> sentences(2);
  on_ranks(2, [&](int rank) {
    sentences[rank] = expiry_of(recovery, view_of(rank, 0, milliseconds(rank == 0 ? 100 : 300)));
  });
  EXPECT_EQ(sentences[0], "[world] rank 0 waited 100 ms in recover for rank 2");
  EXPECT_EQ(sentences[1], "[world] rank 1 waited 300 ms in recover for rank 2");
}

// If all have come, but never all at once, those that are gone are named.
TEST(Recovery, WhoGaveUpForGoodIsNamed) {
  Recovery recovery(2);
  EXPECT_EQ(expiry_of(recovery, view_of(0, 0, milliseconds(10))),
            "[world] rank 0 waited 10 ms in recover for rank 1");
  EXPECT_EQ(expiry_of(recovery, view_of(1, 0, milliseconds(10))),
            "[world] rank 1 waited 10 ms in recover for rank 0");
}

TEST(Recovery, MayBeTriedAgain) {
  Recovery recovery(3);
  for (int round = 0; round < 3; ++round) {
    for (const int rank : {0, 2}) {
      EXPECT_NE(expiry_of(recovery, view_of(rank, 5, milliseconds(5))), "met");
    }
    std::vector<std::uint32_t> bases(3);
    on_ranks(3, [&](int rank) { bases[rank] = recovery.meet(view_of(rank, 5), kNoReset); });
    EXPECT_EQ(bases, std::vector<std::uint32_t>(3, 5)) << "round " << round;
  }
}

// ---------------------------------------------------------------- World::recover

TEST(WorldRecover, ForgetsTheFailureAndGoesOnFromTheLatestEpoch) {
  run_local_world(3, {.timeout = milliseconds(10'000)}, [](World& world) {
    WorldView& view = world.view();
    view.epoch = world.rank() == 1 ? 5 : 4;
    world.barrier();
    view.report_failure(ErrorCode::internal, "[x] planted");
    EXPECT_THROW(world.barrier(), Error);
    world.recover();
    EXPECT_EQ(view.epoch, 5U);
    EXPECT_FALSE(view.failures->failed());
    EXPECT_EQ(view.progress->describe_cause(world.rank()),
              "cause: rank " + std::to_string(world.rank()) + ", not in a call since call 5");
    world.barrier();  // also half-attended meetings are forgotten
  });
}

TEST(WorldRecover, ForgetsWhatWasBookedOnTheLink) {
  const LinkSpec slow{.kind = LinkSpec::Kind::paced, .gigabytes_per_second = 0.001};
  run_local_world(2, {.link = slow, .timeout = milliseconds(10'000)}, [](World& world) {
    using std::chrono::seconds;
    const auto now = std::chrono::steady_clock::now();
    if (world.rank() == 0) {
      EXPECT_GE(world.view().link->book(0, 1, 100'000'000, now), now + seconds(99));
    }
    world.recover();
    EXPECT_TRUE(world.view().link->paced());
    EXPECT_LT(world.view().link->book(0, 1, 1, now), now + seconds(1));
  });
}

}  // namespace
}  // namespace comet
