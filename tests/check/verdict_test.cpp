// SPDX-License-Identifier: Apache-2.0
// The judges themselves: each must accept what is right and name the place of what is wrong.
#include "check/verdict.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

namespace comet {
namespace {

class Verdict : public testing::Test {
 protected:
  Verdict() {
    c_.pattern = TokenPattern::full;
    c_.row_padding = 3;
    ranks_ = make_call(c_);
    weights_ = make_weights(c_);
    for (const RankCall& call : ranks_) {
      truth_.push_back(run_oracle(c_.desc, weights_.oracle(), call.x_view(), call.routing_view()));
      RunOutput& output = outputs_.emplace_back();
      output.y.assign(call.tokens * call.row_stride * 4, kCanary);
      for (std::int64_t t = 0; t < call.tokens; ++t) {
        for (std::int64_t h = 0; h < 32; ++h) {
          set(output, t, h, static_cast<float>(truth_.back().y[t * 32 + h]));
        }
      }
    }
  }

  void set(RunOutput& output, std::int64_t token, std::int64_t column, float value) const {
    std::memcpy(output.y.data() + (token * ranks_[0].row_stride + column) * 4, &value, 4);
  }
  static void expect_names(const std::string& failure, const std::string& where) {
    EXPECT_NE(failure.find(where), std::string::npos) << failure;
  }

  Case c_ = plain_case(3, 9);
  std::string label_ = "a run";
  std::vector<RankCall> ranks_;
  CaseWeights weights_;
  std::vector<OracleResult> truth_;
  std::vector<RunOutput> outputs_;
};

TEST_F(Verdict, BoundAcceptsTheTruthAndNamesTheElement) {
  double worst = 0;
  EXPECT_EQ(judge_bound({label_, 1}, ranks_[1], outputs_[1], truth_[1], worst), "");
  EXPECT_LT(worst, 1.0);
  set(outputs_[1], 4, 7, static_cast<float>(truth_[1].y[4 * 32 + 7] + 0.01));
  expect_names(judge_bound({label_, 1}, ranks_[1], outputs_[1], truth_[1], worst),
               "a run: rank 1 token 4 column 7: got");
  set(outputs_[1], 4, 7, NAN);
  expect_names(judge_bound({label_, 1}, ranks_[1], outputs_[1], truth_[1], worst), "got nan");
}

TEST_F(Verdict, BitsSeeTheLastOneAndTheSignOfZero) {
  RunOutput other = outputs_[2];
  EXPECT_EQ(judge_bits({label_, 2}, ranks_[2], other, outputs_[2], "sequential"), "");
  other.y[(20 * ranks_[2].row_stride + 31) * 4] ^= std::byte{1};
  expect_names(judge_bits({label_, 2}, ranks_[2], other, outputs_[2], "sequential"),
               "rank 2 token 20 column 31");
  RunOutput zero = outputs_[2], minus_zero = outputs_[2];
  set(zero, 0, 0, 0.0F);
  set(minus_zero, 0, 0, -0.0F);
  EXPECT_NE(judge_bits({label_, 2}, ranks_[2], zero, minus_zero, "sequential"), "");
}

TEST_F(Verdict, CleanSeesErrorsAndWritesPastARow) {
  EXPECT_EQ(judge_clean({label_, 0}, ranks_[0], outputs_[0]), "");
  set(outputs_[0], 2, 32, 1.0F);
  expect_names(judge_clean({label_, 0}, ranks_[0], outputs_[0]), "rank 0 token 2: y was written");
  outputs_[0].error = RunError{ErrorCode::capacity, "[plan] too small"};
  expect_names(judge_clean({label_, 0}, ranks_[0], outputs_[0]), "threw capacity: [plan]");
}

TEST_F(Verdict, NanWantsEveryElement) {
  expect_names(judge_nan({label_, 0}, ranks_[0], outputs_[0]), "token 0 column 0");
  for (std::int64_t t = 0; t < 21; ++t) {
    for (std::int64_t h = 0; h < 32; ++h) set(outputs_[0], t, h, NAN);
  }
  EXPECT_EQ(judge_nan({label_, 0}, ranks_[0], outputs_[0]), "");
  set(outputs_[0], 20, 31, 0.0F);
  expect_names(judge_nan({label_, 0}, ranks_[0], outputs_[0]), "token 20 column 31");
}

TEST_F(Verdict, StatsCountATokenOncePerRank) {
  // Two experts per rank. Rank 0: token 0 to both experts of rank 1, token 1 to ranks 0 and 2.
  c_.desc.topk = 2;
  for (RankCall& call : ranks_) {
    for (std::int64_t i = 0; i < call.tokens * 2; ++i) call.set_id(i, -1);
  }
  ranks_[0].set_id(0, 2);
  ranks_[0].set_id(1, 3);
  ranks_[0].set_id(2, 0);
  ranks_[0].set_id(3, 5);
  const std::int64_t token = 32 * 4;
  outputs_[0].stats = {.rows = 1, .dispatch_bytes_out = 2 * token, .combine_bytes_in = 2 * token};
  outputs_[1].stats = {.rows = 2, .dispatch_bytes_in = token, .combine_bytes_out = token};
  outputs_[2].stats = {.rows = 1, .dispatch_bytes_in = token, .combine_bytes_out = token};
  EXPECT_EQ(judge_stats(c_, label_, ranks_, outputs_), "");
  outputs_[1].stats.dispatch_bytes_in += token;
  expect_names(judge_stats(c_, label_, ranks_, outputs_), "rank 1: stats.dispatch_bytes_in is 256");
}

}  // namespace
}  // namespace comet
