// SPDX-License-Identifier: Apache-2.0
// One thread per rank; the error that comes out is the one that started it.
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>

#include "comet/error.hpp"
#include "comet/world.hpp"

namespace comet {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;

TEST(RunLocalWorld, RunsEveryRankOnce) {
  std::atomic<int> ranks{0};
  run_local_world(5, {}, [&](World& world) { ranks += 1 << world.rank(); });
  EXPECT_EQ(ranks, 0b11111);
}

TEST(RunLocalWorld, RethrowsTheRootError) {
  const auto start = steady_clock::now();
  std::atomic<int> num_echoes{0};
  try {
    run_local_world(4, {}, [&](World& world) {
      if (world.rank() == 2) throw Error(ErrorCode::format, "[test] rank 2 broke");
      try {
        world.barrier();
      } catch (const Error& error) {
        if (error.code() == ErrorCode::peer) ++num_echoes;
        throw;
      }
    });
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::format);
    EXPECT_STREQ(error.what(), "[test] rank 2 broke");
  }
  EXPECT_EQ(num_echoes, 3);
  EXPECT_LT(steady_clock::now() - start, seconds(20));
}

TEST(RunLocalWorld, RethrowsForeignExceptionsAsTheyAre) {
  EXPECT_THROW(run_local_world(3, {},
                               [](World& world) {
                                 if (world.rank() == 1) throw std::length_error("too long");
                                 world.barrier();
                               }),
               std::length_error);
}

TEST(RunLocalWorld, SentenceOfAForeignExceptionReachesOtherRanks) {
  std::atomic<int> num_named{0};
  const auto body = [&](World& world) {
    if (world.rank() == 0) throw 7;
    try {
      world.barrier();
    } catch (const Error& error) {
      if (error.what() == std::string("[world] rank 0 threw an unknown exception")) ++num_named;
    }
  };
  EXPECT_THROW(run_local_world(2, {}, body), int);
  EXPECT_EQ(num_named, 1);
}

TEST(RunLocalWorld, AnEchoAloneIsRethrownToo) {
  try {
    run_local_world(2, {}, [](World&) { throw Error(ErrorCode::peer, "[test] echo"); });
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::peer);
  }
}

TEST(RunLocalWorld, LateExitOfAFastRankDoesNoHarm) {
  std::atomic<int> num_done{0};
  for (int i = 0; i < 50; ++i) {
    run_local_world(3, {}, [&](World& world) {
      world.barrier();
      ++num_done;
    });
  }
  EXPECT_EQ(num_done, 150);
}

}  // namespace
}  // namespace comet
