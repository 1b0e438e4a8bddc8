// SPDX-License-Identifier: Apache-2.0
// ProgressBoard: words survive packing, and causes are followed to the rank that waits for nobody.
#include "comm/progress_board.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace comet {
namespace {

constexpr std::int32_t kNobody = -1;

TEST(ProgressBoard, BeginsIdleWithoutACall) {
  const ProgressBoard board(3);
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(board.get(rank).epoch, 0U);
    EXPECT_EQ(board.get(rank).stage, Stage::idle);
    EXPECT_EQ(board.get(rank).waits_for, kNobody);
  }
  EXPECT_EQ(board.describe_cause(1), "cause: rank 1, has not entered a call yet");
}

TEST(ProgressBoard, KeepsEveryFieldOfEveryRankApart) {
  ProgressBoard board(1024);
  for (int rank = 0; rank < 1024; ++rank) {
    board.set(rank, {0xffffffffU - static_cast<std::uint32_t>(rank), static_cast<Stage>(rank % 6),
                     1023 - rank});
  }
  for (int rank = 0; rank < 1024; ++rank) {
    EXPECT_EQ(board.get(rank).epoch, 0xffffffffU - static_cast<std::uint32_t>(rank));
    EXPECT_EQ(board.get(rank).stage, static_cast<Stage>(rank % 6));
    EXPECT_EQ(board.get(rank).waits_for, 1023 - rank);
  }
}

TEST(ProgressBoard, NamesEveryStage) {
  ProgressBoard board(1);
  const std::pair<Stage, const char*> names[] = {{Stage::publish, "publish"},
                                                 {Stage::plan, "plan"},
                                                 {Stage::dispatch_gemm, "dispatch_gemm"},
                                                 {Stage::gemm_combine, "gemm_combine"},
                                                 {Stage::reference, "reference"}};
  for (const auto& [stage, name] : names) {
    board.set(0, {7, stage, kNobody});
    EXPECT_EQ(board.describe_cause(0), std::string("cause: rank 0, in ") + name + " of call 7");
  }
  board.set(0, {7, Stage::idle, kNobody});
  EXPECT_EQ(board.describe_cause(0), "cause: rank 0, not in a call since call 7");
}

TEST(ProgressBoard, WhoWaitsForNobodyIsTheCause) {
  ProgressBoard board(4);
  board.set(2, {5, Stage::plan, kNobody});
  EXPECT_EQ(board.find_cause(2), 2);
}

TEST(ProgressBoard, FollowsAChainOfAllRanks) {
  ProgressBoard board(5);
  board.set(0, {9, Stage::publish, 3});
  board.set(3, {8, Stage::gemm_combine, 1});
  board.set(1, {8, Stage::gemm_combine, 4});
  board.set(4, {8, Stage::dispatch_gemm, 2});
  board.set(2, {7, Stage::idle, kNobody});
  for (const int direct : {0, 3, 1, 4, 2}) EXPECT_EQ(board.find_cause(direct), 2);
  EXPECT_EQ(board.describe_cause(3), "cause: rank 2, not in a call since call 7");
}

TEST(ProgressBoard, ARankThatSaysItWaitsForItselfIsTheCause) {
  ProgressBoard board(3);
  board.set(0, {4, Stage::publish, 1});
  board.set(1, {4, Stage::gemm_combine, 1});
  EXPECT_EQ(board.find_cause(0), 1);
}

// A stopped rank may have waited for one that has gone on since, or that waits for it.
TEST(ProgressBoard, ARankThatIsStoppedIsTheCauseWhateverItSaidLast) {
  ProgressBoard board(4, nullptr, [](int rank) { return rank == 1; });
  board.set(1, {4, Stage::gemm_combine, 0});
  board.set(0, {4, Stage::gemm_combine, 1});
  board.set(2, {5, Stage::publish, 0});
  for (const int direct : {0, 1, 2}) EXPECT_EQ(board.find_cause(direct), 1);
  board.set(0, {5, Stage::idle, kNobody});
  EXPECT_EQ(board.describe_cause(1),
            "cause: rank 1, in gemm_combine of call 4, its process is stopped");
}

// Stale words may make a cycle: the search must end, at the rank that the reporter knows of.
TEST(ProgressBoard, CyclesEndAtTheRankAskedFor) {
  ProgressBoard board(4);
  board.set(0, {4, Stage::publish, 1});
  board.set(1, {4, Stage::publish, 0});
  EXPECT_EQ(board.find_cause(0), 0);
  EXPECT_EQ(board.find_cause(1), 1);
  board.set(2, {4, Stage::publish, 0});  // leads into the cycle
  EXPECT_EQ(board.find_cause(2), 2);
  board.set(0, {4, Stage::publish, 1});
  board.set(1, {4, Stage::publish, 2});
  board.set(2, {4, Stage::publish, 3});
  board.set(3, {4, Stage::publish, 0});
  for (int direct = 0; direct < 4; ++direct) EXPECT_EQ(board.find_cause(direct), direct);
}

TEST(ProgressBoard, RanksOutsideTheWorldAreNotFollowed) {
  ProgressBoard board(2);
  board.set(0, {4, Stage::publish, 2});
  EXPECT_EQ(board.find_cause(0), 0);
}

// A word is written as a whole: no reader sees one rank's epoch with another set's stage.
TEST(ProgressBoard, WordsAreNeverTorn) {
  ProgressBoard board(2);
  std::thread writer([&] {
    for (std::uint32_t i = 0; i < 20'000; ++i) {
      board.set(1, {i, static_cast<Stage>(i % 6), static_cast<std::int32_t>(i % 2)});
    }
  });
  for (int i = 0; i < 20'000; ++i) {
    const Progress seen = board.get(1);
    if (seen.epoch == 0) continue;  // the first set's waits_for is -1
    ASSERT_EQ(seen.stage, static_cast<Stage>(seen.epoch % 6));
    ASSERT_EQ(seen.waits_for, static_cast<std::int32_t>(seen.epoch % 2));
  }
  writer.join();
}

}  // namespace
}  // namespace comet
