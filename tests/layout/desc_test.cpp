// SPDX-License-Identifier: Apache-2.0
#include "comet/desc.hpp"

#include <gtest/gtest.h>

#include "comet/error.hpp"

namespace comet {
namespace {

MoeDesc small_desc() {
  return {.num_experts = 7, .topk = 2, .hidden = 16, .intermediate = 48, .max_tokens = 5};
}

TEST(Desc, DefaultPlacementGivesTheFirstRanksOneMore) {
  EXPECT_EQ(expert_owners(small_desc(), {.ep = 3}),
            (std::vector<std::int32_t>{0, 0, 0, 1, 1, 2, 2}));
  EXPECT_EQ(local_experts(small_desc(), {.ep = 3}, 1), (std::vector<std::int32_t>{3, 4}));
}

TEST(Desc, MoreRanksThanExpertsLeavesRanksEmpty) {
  EXPECT_TRUE(local_experts(small_desc(), {.ep = 8}, 7).empty());
  EXPECT_NO_THROW(validate(small_desc(), {.ep = 8}));
}

TEST(Desc, TableOverridesThePlacement) {
  MoeDesc desc = small_desc();
  desc.expert_owner = {1, 0, 1, 0, 1, 0, 1};
  EXPECT_EQ(local_experts(desc, {.ep = 2}, 0), (std::vector<std::int32_t>{1, 3, 5}));
  desc.expert_owner[3] = 2;
  EXPECT_THROW(validate(desc, {.ep = 2}), Error);
  desc.expert_owner.pop_back();
  EXPECT_THROW(validate(desc, {.ep = 2}), Error);
}

TEST(Desc, RejectsWhatNoCallCanAccept) {
  const auto rejects = [](auto change, ParallelDesc parallel = {}) {
    MoeDesc desc = small_desc();
    change(desc);
    EXPECT_THROW(validate(desc, parallel), Error);
  };
  EXPECT_NO_THROW(validate(small_desc(), {.ep = 3, .tp = 2}));
  rejects([](MoeDesc& d) { d.num_experts = 0; });
  rejects([](MoeDesc& d) { d.num_experts = 65535; });
  rejects([](MoeDesc& d) { d.topk = 33; });
  rejects([](MoeDesc& d) { d.hidden = 12; });
  rejects([](MoeDesc& d) { d.intermediate = 40; }, {.ep = 1, .tp = 3});
  rejects([](MoeDesc& d) { d.max_tokens = -1; });
  rejects([](MoeDesc& d) { d.max_tokens = std::int64_t{1} << 60; });
  rejects([](MoeDesc&) {}, {.ep = 0});
}

}  // namespace
}  // namespace comet
