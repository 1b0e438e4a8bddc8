// SPDX-License-Identifier: Apache-2.0
// Random cases: the same everywhere, valid, and over 2000 of them every corner occurs.
#include "check/random_case.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "check/case_data.hpp"
#include "check/rng.hpp"

namespace comet {
namespace {

constexpr std::uint64_t kCases = 2000;

template <typename Get>
auto values_of(const Get& get) {
  std::set<decltype(get(Case{}))> values;
  for (std::uint64_t i = 0; i < kCases; ++i) values.insert(get(random_case(7, i)));
  return values;
}

template <typename Condition>
std::int64_t count_of(const Condition& condition) {
  std::int64_t count = 0;
  for (std::uint64_t i = 0; i < kCases; ++i) count += condition(random_case(7, i)) ? 1 : 0;
  return count;
}

TEST(RandomCase, HasTheRanksThatAreAskedFor) {
  std::set<std::int64_t> ep_ranks;
  for (std::uint64_t i = 0; i < 40; ++i) {
    for (const Backend backend : {Backend::cpu, Backend::cuda}) {
      const Case c = random_case(7, i, backend, 4);
      EXPECT_EQ(c.world_size(), 4);
      EXPECT_EQ(std::ssize(c.options), 4);
      ep_ranks.insert(c.parallel.ep);
    }
  }
  EXPECT_EQ(ep_ranks, (std::set<std::int64_t>{1, 2, 4}));
}

TEST(Rng, KnownNumbers) {
  // The published first outputs of splitmix64 from state 1234567.
  Rng rng(1234567);
  EXPECT_EQ(rng.next(), 6457827717110365317ULL);
  EXPECT_EQ(rng.next(), 3203168211198807973ULL);
  EXPECT_EQ(rng.next(), 9817491932198370423ULL);
}

TEST(RandomCase, SameFromTheSameSeedAndIndexOnly) {
  EXPECT_EQ(describe(random_case(3, 8)), describe(random_case(3, 8)));
  std::set<std::string> lines;
  for (std::uint64_t i = 0; i < 200; ++i) {
    const std::string line = describe(random_case(3 + i % 2, i / 2));
    lines.insert(line.substr(line.find(':')));
  }
  EXPECT_EQ(lines.size(), 200U);
}

TEST(RandomCase, AllAreValidAndSmall) {
  for (std::uint64_t i = 0; i < kCases; ++i) {
    const Case c = random_case(7, i);
    ASSERT_NO_THROW(validate(c.desc, c.parallel)) << describe(c);
    ASSERT_EQ(static_cast<std::int64_t>(c.options.size()), c.world_size());
    ASSERT_EQ(c.gate_layout == GateLayout::none, !c.desc.gated);
    ASSERT_LE(c.desc.max_tokens, 200);
  }
}

TEST(RandomCase, EverySizeOccurs) {
  EXPECT_EQ(values_of([](const Case& c) { return c.world_size(); }),
            (std::set<std::int64_t>{1, 2, 3, 4, 5, 6, 8}));
  // All ways to split the world sizes above.
  EXPECT_EQ(values_of([](const Case& c) { return std::pair(c.parallel.ep, c.parallel.tp); }).size(),
            1U + 2 + 2 + 3 + 2 + 4 + 4);
  EXPECT_EQ(values_of([](const Case& c) { return c.desc.num_experts; }).size(), 20U);
  EXPECT_EQ(values_of([](const Case& c) { return c.desc.topk; }).size(), 8U);
  EXPECT_EQ(values_of([](const Case& c) { return c.desc.hidden; }).size(), 17U);
  EXPECT_GE(values_of([](const Case& c) { return c.desc.intermediate; }).size(), 17U);
  EXPECT_GE(values_of([](const Case& c) { return c.desc.max_tokens; }).size(), 150U);
}

TEST(RandomCase, EveryChoiceOccurs) {
  EXPECT_EQ(values_of([](const Case& c) {
              return std::tuple(c.desc.dtype, c.desc.activation, c.desc.gated,
                                c.desc.weight_position);
            }).size(),
            2U * 3 * 2 * 2);
  EXPECT_EQ(values_of([](const Case& c) { return std::pair(c.form, c.gate_layout); }).size(),
            3U * 4);
  EXPECT_EQ(values_of([](const Case& c) { return c.id_type; }).size(), 2U);
  EXPECT_EQ(values_of([](const Case& c) { return c.weight_type; }).size(), 3U);
  EXPECT_EQ(values_of([](const Case& c) { return c.row_padding; }).size(), 3U);
  EXPECT_EQ(values_of([](const Case& c) { return c.routing; }).size(), 9U);
  EXPECT_EQ(values_of([](const Case& c) { return c.pattern; }).size(), 5U);
  EXPECT_EQ(values_of([](const Case& c) { return c.delays; }).size(), 3U);
  EXPECT_EQ(values_of([](const Case& c) { return c.link.gigabytes_per_second; }).size(), 20U);
}

TEST(RandomCase, EveryExecutionOccurs) {
  EXPECT_EQ(values_of([](const Case& c) { return c.options[0].block_m; }),
            (std::set<std::int64_t>{16, 32, 64}));
  EXPECT_EQ(values_of([](const Case& c) { return c.options[0].block_n; }).size(), 7U);
  EXPECT_EQ(values_of([](const Case& c) { return c.options.back().num_workers; }).size(), 4U);
  EXPECT_EQ(values_of([](const Case& c) { return c.forward.groups; }).size(), 4U);
  EXPECT_GE(values_of([](const Case& c) { return c.forward.panel; }).size(), 17U);  // up to H
  EXPECT_EQ(values_of([](const Case& c) { return c.forward.chunk; }).size(), 5U);
}

TEST(RandomCase, EveryCornerOccurs) {
  EXPECT_GE(count_of([](const Case& c) { return c.desc.num_experts < c.parallel.ep; }), 20);
  EXPECT_GE(count_of([](const Case& c) { return c.desc.num_experts % c.parallel.ep != 0; }), 200);
  EXPECT_GE(count_of([](const Case& c) { return c.desc.topk > c.desc.num_experts; }), 50);
  EXPECT_GE(count_of([](const Case& c) { return c.desc.max_tokens == 0; }), 5);
  EXPECT_GE(count_of([](const Case& c) { return c.parallel.ep > 1 && c.parallel.tp > 1; }), 100);
  EXPECT_GE(count_of([](const Case& c) {  // a placement table with a rank that owns nothing
              const std::set<std::int32_t> used(c.desc.expert_owner.begin(),
                                                c.desc.expert_owner.end());
              return !used.empty() && static_cast<std::int64_t>(used.size()) < c.parallel.ep;
            }),
            50);
  EXPECT_GE(count_of([](const Case& c) {  // one worker on every rank of a real world
              return c.world_size() > 1 &&
                     std::all_of(c.options.begin(), c.options.end(),
                                 [](const LayerOptions& o) { return o.num_workers == 1; });
            }),
            50);
  EXPECT_GE(count_of([](const Case& c) {
              return c.options.front().num_workers != c.options.back().num_workers;
            }),
            500);
}

// ---------------------------------------------------------------- cuda

template <typename Get>
auto device_values_of(const Get& get) {
  std::set<decltype(get(Case{}))> values;
  for (std::uint64_t i = 0; i < kCases; ++i) values.insert(get(random_case(7, i, Backend::cuda)));
  return values;
}

TEST(RandomDeviceCase, AllAreValidAndPossible) {
  for (std::uint64_t i = 0; i < kCases; ++i) {
    const Case c = random_case(7, i, Backend::cuda);
    ASSERT_NO_THROW(validate(c.desc, c.parallel)) << describe(c);
    ASSERT_EQ(static_cast<std::int64_t>(c.options.size()), c.world_size());
    ASSERT_TRUE(c.desc.dtype == DType::bf16 || c.desc.dtype == DType::f16) << describe(c);
    ASSERT_GE(c.options[0].max_groups, 8);  // what run_case asks for
    ASSERT_GE(c.options[0].max_groups, c.forward.groups);
    ASSERT_NE(describe(c).find(" backend=cuda "), std::string::npos);
  }
}

TEST(RandomDeviceCase, EveryChoiceOccurs) {
  EXPECT_EQ(device_values_of([](const Case& c) { return c.world_size(); }),
            (std::set<std::int64_t>{1, 2, 3, 4, 5, 6, 8}));
  EXPECT_EQ(device_values_of([](const Case& c) {
              return std::pair(c.options[0].block_m, c.options[0].block_n);
            }),
            (std::set<std::pair<std::int64_t, std::int64_t>>{
                {0, 0}, {0, 256}, {64, 0}, {64, 256}, {128, 0}, {128, 256}}));
  EXPECT_EQ(device_values_of([](const Case& c) { return c.link.kind; }).size(), 3U);
  EXPECT_EQ(device_values_of([](const Case& c) { return c.desc.dtype; }).size(), 2U);
  EXPECT_EQ(device_values_of([](const Case& c) { return c.options[0].max_rows > 0; }).size(), 2U);
  EXPECT_EQ(device_values_of([](const Case& c) { return c.forward.groups; }).size(), 8U);
  EXPECT_EQ(device_values_of([](const Case& c) { return c.routing; }).size(), 9U);
  EXPECT_EQ(device_values_of([](const Case& c) { return c.pattern; }).size(), 5U);
  // Several panels, and experts with several row tiles.
  EXPECT_GE(*device_values_of([](const Case& c) { return c.desc.hidden; }).rbegin(), 1024);
  EXPECT_GE(*device_values_of([](const Case& c) { return c.desc.intermediate; }).rbegin(), 1024);
  EXPECT_GE(*device_values_of([](const Case& c) {
               return c.world_size() * c.desc.max_tokens * c.desc.topk / c.desc.num_experts;
             }).rbegin(),
            256);
}

// One of 64 has no token; the others have between 1 and 300, or, of few ranks, so many that GPUs
// copy them beside the plan.
TEST(RandomDeviceCase, SomeHaveMoreThanAMegabyteOfTokens) {
  std::set<std::int64_t> ranks;
  for (std::uint64_t i = 0; i < kCases; ++i) {
    const Case c = random_case(7, i, Backend::cuda);
    if (c.desc.max_tokens <= 300) continue;
    EXPECT_GT(c.desc.max_tokens * c.desc.hidden * 2, 1 << 20) << describe(c);
    ranks.insert(c.world_size());
  }
  EXPECT_EQ(ranks, (std::set<std::int64_t>{1, 2, 3, 4}));
}

// What TMA asks of weights: whole 16 bytes between rows and experts.
TEST(RandomDeviceCase, WeightsHaveStridesOfWholeEights) {
  for (const auto form : {WeightForm::fused, WeightForm::listed, WeightForm::separate}) {
    Case c = plain_case(4, 3, Backend::cuda);
    set_parallel(c, {.ep = 2, .tp = 2});
    c.form = form;
    const CaseWeights weights = make_weights(c);
    const MoeWeights& view = weights.ranks[1].view;
    for (const ExpertMatrices& matrices : {view.gate, view.up, view.down}) {
      EXPECT_EQ(matrices.row_stride % 8, 0) << to_string(form);
      EXPECT_EQ(matrices.expert_stride % 8, 0) << to_string(form);
      EXPECT_EQ(matrices.offset % 8, 0) << to_string(form);
    }
  }
}

std::vector<std::int64_t> ids_of(const RankCall& call, std::int64_t topk) {
  std::vector<std::int64_t> ids(call.tokens * topk);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    ids[i] = call.routing_view().id(static_cast<std::int64_t>(i));
  }
  return ids;
}

TEST(CaseData, SameCallFromTheSameCaseOtherFromAnother) {
  const Case c = random_case(1, 4);
  const auto first = make_call(c, 0), again = make_call(c, 0), other = make_call(c, 1);
  bool any_token = false;
  for (std::size_t rank = 0; rank < first.size(); ++rank) {
    EXPECT_EQ(first[rank].x, again[rank].x);
    EXPECT_EQ(ids_of(first[rank], c.desc.topk), ids_of(again[rank], c.desc.topk));
    any_token = any_token || (first[rank].tokens > 0 && first[rank].x != other[rank].x);
  }
  EXPECT_TRUE(any_token);
}

TEST(CaseData, RoutingKindsDoWhatTheySay) {
  Case c = plain_case(3, 1);
  c.pattern = TokenPattern::full;
  c.desc.topk = 4;
  const auto owners = expert_owners(c.desc, c.parallel);
  const auto each_id = [&](RoutingKind kind, const auto& holds) {
    c.routing = kind;
    const std::vector<RankCall> ranks = make_call(c);
    for (std::int64_t rank = 0; rank < 3; ++rank) {
      const auto ids = ids_of(ranks[rank], 4);
      ASSERT_EQ(ids.size(), 21U * 4);
      for (std::size_t i = 0; i < ids.size(); ++i) {
        ASSERT_TRUE(holds(ids, i, rank)) << to_string(kind) << " rank " << rank << " choice " << i;
      }
    }
  };
  using Ids = std::vector<std::int64_t>;
  each_id(RoutingKind::all_dropped,
          [](const Ids& ids, std::size_t i, std::int64_t) { return ids[i] == -1; });
  each_id(RoutingKind::one_expert, [](const Ids& ids, std::size_t i, std::int64_t) {
    return ids[i] == (i % 4 == 0 ? ids[0] : -1);
  });
  each_id(RoutingKind::local,
          [&](const Ids& ids, std::size_t i, std::int64_t rank) { return owners[ids[i]] == rank; });
  each_id(RoutingKind::remote,
          [&](const Ids& ids, std::size_t i, std::int64_t rank) { return owners[ids[i]] != rank; });
  each_id(RoutingKind::uniform, [](const Ids& ids, std::size_t i, std::int64_t) {
    const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(i / 4 * 4);
    return ids[i] >= 0 && ids[i] < 6 && std::count(begin, begin + 4, ids[i]) == 1;
  });
  c.routing = RoutingKind::duplicates;
  const auto twice = ids_of(make_call(c)[0], 4);
  std::int64_t repeats = 0;
  for (std::size_t i = 0; i < twice.size(); ++i) {
    repeats += i % 4 != 0 && twice[i] == twice[i - 1] ? 1 : 0;
  }
  EXPECT_GE(repeats, 15);
  c.routing = RoutingKind::some_dropped;
  const auto dropped = ids_of(make_call(c)[0], 4);
  EXPECT_GE(std::count(dropped.begin(), dropped.end(), -1), 15);
}

// Element (row, col) of local expert `e` through the view that the engine gets.
float element(const ExpertMatrices& matrices, std::int64_t e, std::int64_t row, std::int64_t col) {
  float value;
  std::memcpy(&value,
              static_cast<const std::byte*>(matrices.expert(e, DType::f32)) +
                  (row * matrices.row_stride + col) * 4,
              4);
  return value;
}

float whole(const Bytes& bytes, std::int64_t index) {
  float value;
  std::memcpy(&value, bytes.data() + index * 4, 4);
  return value;
}

TEST(CaseData, EveryWeightLayoutHoldsTheSameSlices) {
  Case c = plain_case(1, 2);
  set_parallel(c, {.ep = 2, .tp = 3});
  const std::int64_t inter = c.desc.intermediate, slice = inter / 3, hidden = c.desc.hidden;
  for (const auto form : {WeightForm::fused, WeightForm::listed, WeightForm::separate}) {
    for (const auto layout : {GateLayout::gate_up, GateLayout::up_gate, GateLayout::interleaved}) {
      c.form = form;
      c.gate_layout = layout;
      const CaseWeights weights = make_weights(c);
      for (std::int64_t rank = 0; rank < 6; ++rank) {
        const MoeWeights& view = weights.ranks[rank].view;
        for (std::int64_t local = 0; local < 3; ++local) {
          const std::int64_t expert = rank / 3 * 3 + local;
          for (const std::int64_t i : {std::int64_t{0}, std::int64_t{5}, slice - 1}) {
            const std::int64_t global = rank % 3 * slice + i;
            for (const std::int64_t h : {std::int64_t{0}, std::int64_t{7}, hidden - 1}) {
              const std::int64_t up = (expert * inter + global) * hidden + h;
              const std::int64_t down = (expert * hidden + h) * inter + global;
              ASSERT_EQ(element(view.gate, local, i, h), whole(weights.gate, up));
              ASSERT_EQ(element(view.up, local, i, h), whole(weights.up, up));
              ASSERT_EQ(element(view.down, local, h, i), whole(weights.down, down));
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace comet
