// SPDX-License-Identifier: Apache-2.0
// The first report wins, and every rank throws its sentence with the code that is right for it.
#include "comm/failure_board.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace comet {
namespace {

struct Thrown {
  ErrorCode code;
  std::string sentence;
};

Thrown rethrown(const FailureBoard& board, int rank) {
  try {
    board.rethrow(rank);
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
}

TEST(FailureBoard, HasNoFailureAtFirst) {
  const FailureBoard board;
  EXPECT_FALSE(board.failed());
  EXPECT_EQ(rethrown(board, 0).code, ErrorCode::internal);
}

TEST(FailureBoard, FirstReportWins) {
  FailureBoard board;
  EXPECT_TRUE(board.report(2, ErrorCode::out_of_range, "[x] first"));
  EXPECT_FALSE(board.report(1, ErrorCode::io, "[x] second"));
  EXPECT_TRUE(board.failed());
  EXPECT_EQ(rethrown(board, 2).code, ErrorCode::out_of_range);
  EXPECT_EQ(rethrown(board, 2).sentence, "[x] first");
  EXPECT_EQ(rethrown(board, 1).code, ErrorCode::peer);
  EXPECT_EQ(rethrown(board, 1).sentence, "[x] first");
}

TEST(FailureBoard, TimeoutIsATimeoutOnAllRanks) {
  FailureBoard board;
  board.report(0, ErrorCode::timeout, "[x] waited");
  EXPECT_EQ(rethrown(board, 0).code, ErrorCode::timeout);
  EXPECT_EQ(rethrown(board, 3).code, ErrorCode::timeout);
}

TEST(FailureBoard, OneOfManyConcurrentReportsWins) {
  constexpr int kRanks = 8;
  FailureBoard board;
  std::atomic<int> num_first{0};
  std::atomic<int> winner{-1};
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kRanks; ++rank) {
    threads.emplace_back([&, rank] {
      if (board.report(rank, ErrorCode::internal, "[x] rank " + std::to_string(rank))) {
        ++num_first;
        winner = rank;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_EQ(num_first, 1);
  EXPECT_EQ(rethrown(board, winner).sentence, "[x] rank " + std::to_string(winner));
  EXPECT_EQ(rethrown(board, winner).code, ErrorCode::internal);
}

}  // namespace
}  // namespace comet
