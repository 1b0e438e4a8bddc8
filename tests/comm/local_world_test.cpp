// SPDX-License-Identifier: Apache-2.0
// Collectives of ranks that are threads: they meet, disagree alike, and never hang.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <random>
#include <thread>

#include "comet/error.hpp"
#include "comet/world.hpp"
#include "comm/world_view.hpp"

namespace comet {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

LocalWorldOptions with_timeout(milliseconds timeout) {
  LocalWorldOptions options;
  options.timeout = timeout;
  return options;
}

// The error of a call that must throw one.
template <typename Call>
Error error_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorCode::internal, "nothing was thrown");
}

class LocalWorldTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, LocalWorldTest, testing::Values(1, 2, 5));

TEST_P(LocalWorldTest, HandlesKnowTheirPlace) {
  const auto worlds = make_local_world(GetParam(), with_timeout(milliseconds(1234)));
  ASSERT_EQ(worlds.size(), static_cast<std::size_t>(GetParam()));
  for (int rank = 0; rank < GetParam(); ++rank) {
    EXPECT_EQ(worlds[rank]->rank(), rank);
    EXPECT_EQ(worlds[rank]->size(), GetParam());
    EXPECT_EQ(worlds[rank]->kind(), "local");
    EXPECT_EQ(worlds[rank]->timeout(), milliseconds(1234));
    EXPECT_EQ(worlds[rank]->view().rank, rank);
    EXPECT_EQ(worlds[rank]->view().size, GetParam());
    EXPECT_EQ(worlds[rank]->view().timeout, milliseconds(1234));
    EXPECT_EQ(&worlds[rank]->view().doorbell(), worlds[0]->view().doorbells[rank]);
  }
}

TEST_P(LocalWorldTest, NobodyLeavesABarrierBeforeAllHaveCome) {
  const int size = GetParam();
  constexpr int kRounds = 150;
  std::atomic<int> num_come{0};
  std::atomic<int> num_early{0};
  run_local_world(size, {}, [&](World& world) {
    std::mt19937 random(static_cast<unsigned>(world.rank()) + 1);
    for (int round = 1; round <= kRounds; ++round) {
      if (random() % 4 == 0) std::this_thread::sleep_for(microseconds(random() % 300));
      num_come.fetch_add(1, std::memory_order_relaxed);
      world.barrier();
      if (num_come.load(std::memory_order_relaxed) < round * size) ++num_early;
    }
  });
  EXPECT_EQ(num_early, 0);
  EXPECT_EQ(num_come, kRounds * size);
}

TEST_P(LocalWorldTest, BarrierMakesPlainWritesVisible) {
  const int size = GetParam();
  std::vector<int> words(size, 0);
  std::atomic<int> num_wrong{0};
  run_local_world(size, {}, [&](World& world) {
    for (int round = 1; round <= 50; ++round) {
      words[world.rank()] = round;
      world.barrier();
      for (const int word : words) num_wrong += word != round;
      world.barrier();
    }
  });
  EXPECT_EQ(num_wrong, 0);
}

TEST_P(LocalWorldTest, AllGatherIsInRankOrder) {
  const int size = GetParam();
  std::atomic<int> num_wrong{0};
  run_local_world(size, {}, [&](World& world) {
    std::mt19937 random(static_cast<unsigned>(world.rank()) + 7);
    std::vector<std::int64_t> out(size);
    for (std::int64_t round = 0; round < 100; ++round) {
      if (random() % 8 == 0) std::this_thread::sleep_for(microseconds(random() % 200));
      const std::int64_t in = round * 100 + world.rank();
      world.all_gather(&in, out.data(), sizeof(in));
      for (int rank = 0; rank < size; ++rank) num_wrong += out[rank] != round * 100 + rank;
    }
    world.all_gather(nullptr, nullptr, 0);
  });
  EXPECT_EQ(num_wrong, 0);
}

TEST_P(LocalWorldTest, AllocationsAreSymmetricZeroedAndAligned) {
  const int size = GetParam();
  std::atomic<int> num_wrong{0};
  run_local_world(size, {}, [&](World& world) {
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{70000}}) {
      const SymmetricBuffer buffer = world.allocate(bytes);
      num_wrong += buffer.bytes != bytes || buffer.local != buffer.peers[world.rank()];
      num_wrong += reinterpret_cast<std::uintptr_t>(buffer.local) % 4096 != 0;
      num_wrong += buffer.peers.size() != static_cast<std::size_t>(size);
      num_wrong += !std::all_of(buffer.local, buffer.local + bytes,
                                [](std::byte b) { return b == std::byte{0}; });
      std::fill_n(buffer.local, bytes, std::byte(world.rank() + 1));
      world.barrier();
      for (int rank = 0; bytes > 0 && rank < size; ++rank) {
        num_wrong += buffer.peers[rank][bytes - 1] != std::byte(rank + 1);
      }
    }
  });
  EXPECT_EQ(num_wrong, 0);
}

TEST(LocalWorld, UntouchedMemoryIsNotNeeded) {
  run_local_world(2, {}, [](World& world) {
    const SymmetricBuffer buffer = world.allocate(std::size_t{1} << 38);
    buffer.local[buffer.bytes - 1] = std::byte{1};
    world.barrier();
    EXPECT_EQ(buffer.peers[1 - world.rank()][buffer.bytes - 1], std::byte{1});
  });
}

TEST(LocalWorld, MemoryThatCannotBeHadIsAnErrorOnAllRanks) {
  std::atomic<int> num_refused{0};
  run_local_world(3, {}, [&](World& world) {
    const Error error = error_of([&] { world.allocate(SIZE_MAX - 5); });
    if (error.code() == ErrorCode::capacity) ++num_refused;
    world.barrier();
  });
  EXPECT_EQ(num_refused, 3);
}

TEST(LocalWorld, UnequalSizesAreAMismatchOnAllRanksAndTheWorldStaysGood) {
  std::atomic<int> num_mismatches{0};
  run_local_world(3, {}, [&](World& world) {
    const std::size_t bytes = world.rank() == 1 ? 64 : 128;
    const Error allocate = error_of([&] { world.allocate(bytes); });
    if (allocate.code() == ErrorCode::mismatch) ++num_mismatches;
    EXPECT_NE(std::string(allocate.what()).find("128, 64, 128"), std::string::npos)
        << allocate.what();

    std::vector<std::byte> in(bytes), out(3 * 128);
    const Error gather = error_of([&] { world.all_gather(in.data(), out.data(), bytes); });
    if (gather.code() == ErrorCode::mismatch) ++num_mismatches;
    EXPECT_EQ(world.allocate(64).bytes, 64U);
  });
  EXPECT_EQ(num_mismatches, 6);
}

TEST(LocalWorld, DifferentCallsAreAMismatchOnAllRanks) {
  std::atomic<int> num_mismatches{0};
  run_local_world(3, {}, [&](World& world) {
    const Error error = error_of([&] {
      if (world.rank() == 2) {
        world.allocate(8);
      } else {
        world.barrier();
      }
    });
    if (error.code() == ErrorCode::mismatch) ++num_mismatches;
    EXPECT_STREQ(error.what(),
                 "[world] ranks are in different collective calls: rank 0 in barrier, rank 2 in "
                 "allocate");
    world.barrier();
  });
  EXPECT_EQ(num_mismatches, 3);
}

TEST(LocalWorld, LinkIsSetForAllRanks) {
  LocalWorldOptions options;
  options.link = parse_link("paced:2");
  std::atomic<int> num_mismatches{0};
  run_local_world(3, options, [&](World& world) {
    const auto now = steady_clock::now();
    EXPECT_TRUE(world.view().link->paced());
    EXPECT_EQ(to_string(world.link()), "paced:2");
    world.set_link(parse_link("paced:auto"));
    EXPECT_FALSE(world.view().link->paced()) << "its rate is not known yet";
    EXPECT_EQ(to_string(world.link()), "paced:auto:0.6");
    world.set_link(parse_link("paced:0.5"));
    EXPECT_TRUE(world.view().link->paced());
    world.barrier();
    if (world.rank() == 0) {
      EXPECT_EQ(world.view().link->book(0, 1, 1000, now) - now, std::chrono::nanoseconds(2000));
    }

    const char* const different = world.rank() == 2 ? "native" : "paced:7";
    const Error error = error_of([&] { world.set_link(parse_link(different)); });
    if (error.code() == ErrorCode::mismatch) ++num_mismatches;
    EXPECT_STREQ(error.what(),
                 "[world] links differ between ranks: rank 0 has paced:7, rank 2 has native");
    EXPECT_EQ(to_string(world.link()), "paced:0.5");
    world.set_link(LinkSpec{});
    EXPECT_FALSE(world.view().link->paced());
  });
  EXPECT_EQ(num_mismatches, 3);
}

TEST(LocalWorld, ExpiredWaitNamesTheMissingRanksOnAllRanks) {
  const auto worlds = make_local_world(4, with_timeout(milliseconds(200)));
  const auto start = steady_clock::now();
  std::vector<std::thread> threads;
  for (const int rank : {1, 2}) {
    threads.emplace_back([&worlds, rank, start] {
      const Error error = error_of([&] { worlds[rank]->barrier(); });
      EXPECT_EQ(error.code(), ErrorCode::timeout);
      const std::string sentence = error.what();
      EXPECT_TRUE(sentence == "[world] rank 1 waited 200 ms in barrier for ranks 0, 3" ||
                  sentence == "[world] rank 2 waited 200 ms in barrier for ranks 0, 3")
          << sentence;
      EXPECT_GE(steady_clock::now() - start, milliseconds(200));
      EXPECT_LT(steady_clock::now() - start, seconds(10));
    });
  }
  for (std::thread& thread : threads) thread.join();
  // Late ranks learn of it without a wait of their own.
  const Error late = error_of([&] { worlds[3]->allocate(16); });
  EXPECT_EQ(late.code(), ErrorCode::timeout);
  EXPECT_NE(std::string(late.what()).find("for ranks 0, 3"), std::string::npos);
}

TEST(LocalWorld, FailureOfOneRankEndsTheWaitsOfOthers) {
  const auto worlds = make_local_world(3, with_timeout(seconds(60)));
  const auto start = steady_clock::now();
  std::vector<std::thread> threads;
  for (const int rank : {0, 1}) {
    threads.emplace_back([&worlds, rank] {
      const Error error = error_of([&] { worlds[rank]->barrier(); });
      EXPECT_EQ(error.code(), ErrorCode::peer);
      EXPECT_STREQ(error.what(), "[test] broken");
    });
  }
  std::this_thread::sleep_for(milliseconds(50));  // So that they most likely sleep by now.
  EXPECT_TRUE(worlds[2]->view().report_failure(ErrorCode::io, "[test] broken"));
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(error_of([&] { worlds[2]->barrier(); }).code(), ErrorCode::io);
  EXPECT_LT(steady_clock::now() - start, seconds(20));
}

TEST(LocalWorld, SharedStateOutlivesOtherHandles) {
  auto worlds = make_local_world(2);
  std::vector<SymmetricBuffer> buffers(2);
  std::thread thread([&] { buffers[1] = worlds[1]->allocate(4096); });
  buffers[0] = worlds[0]->allocate(4096);
  thread.join();
  worlds[0].reset();
  buffers[1].peers[0][4095] = std::byte{9};
  EXPECT_EQ(buffers[0].local[4095], std::byte{9});
}

TEST(LocalWorld, RefusesBadOptions) {
  EXPECT_EQ(error_of([] { make_local_world(0); }).code(), ErrorCode::invalid_argument);
  EXPECT_EQ(error_of([] { make_local_world(1 << 20); }).code(), ErrorCode::invalid_argument);
  EXPECT_EQ(error_of([] { make_local_world(1, with_timeout(milliseconds(-1))); }).code(),
            ErrorCode::invalid_argument);
  LocalWorldOptions options;
  options.link.kind = LinkSpec::Kind::paced;
  EXPECT_EQ(error_of([&] { make_local_world(1, options); }).code(), ErrorCode::invalid_argument);
  EXPECT_EQ(error_of([] { make_local_world(1, {.max_gpus = -1}); }).code(),
            ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace comet
