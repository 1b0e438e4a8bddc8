// SPDX-License-Identifier: Apache-2.0
// One kernel that begins a lone rank's call and makes its plan, against publish and the plan's own
// kernel: whatever one leaves in memory the other does, call after call.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "backend/cuda/kernels/call_kernels.hpp"
#include "backend/cuda/kernels/overlap_order.hpp"
#include "cuda/gpu_test.hpp"
#include "cuda/managed.hpp"
#include "cuda/routing.hpp"

namespace comet::cuda {
namespace {

constexpr std::int32_t kPanels = 3;
constexpr std::int32_t kPhases = 1;  // of more, lists come in any order

// What a call is given, in memory that both ranks read.
struct SmallCall {
  std::vector<std::byte> ids, weights;
  bool ids_are_64 = false;
  DType weight_type = DType::f32;
  std::int32_t tokens = 0;  // as asked for
  bool tokens_on_device = false;
  std::int32_t most_tokens = 0;  // in memory
  std::int32_t host_fault = 0;
  bool overlaps = false;
  bool has_order = true;
};

std::string words_of(const InputFaultDetail& detail) {
  return fmt::format("({} {} {})", static_cast<int>(detail.kind), detail.a, detail.b);
}

struct Shape {
  std::int32_t num_experts = 1;
  std::int32_t topk = 1;
  std::int32_t max_tokens = 1;
};

LayerDims dims_of(const Shape& shape) {
  return {.num_experts = shape.num_experts,
          .num_local = shape.num_experts,
          .topk = shape.topk,
          .hidden = 64,
          .inter_local = 64,
          .max_tokens = shape.max_tokens,
          .element_bytes = 2,
          .block_m = 64,
          .block_n = 64,
          .panel_n = 64};
}

// Memory of a rank that is alone.
class LoneRank {
 public:
  explicit LoneRank(const Shape& shape)
      : dims_(dims_of(shape)),
        layout_(make_workspace_layout(workspace_sizes(dims_))),
        limits_{.world = 1,
                .tp = 1,
                .max_tokens = shape.max_tokens,
                .topk = shape.topk,
                .num_local = shape.num_experts,
                .block_m = 64,
                .groups = 1},
        capacity_(plan_capacity(limits_)),
        workspace_(static_cast<std::size_t>(layout_.bytes)),
        ids_(static_cast<std::size_t>(dims_.max_tokens * dims_.topk + 8)),
        ep_rank_of_(static_cast<std::size_t>(shape.num_experts)),
        local_of_(static_cast<std::size_t>(shape.num_experts)),
        plan_(limits_),
        order_(limits_, capacity_.tiles * 64, kPhases, kPanels) {
    *peers_.data() = workspace_.data();
    *id_pointers_.data() = ids_.data();
    state_.data()->bad_index = kNoBadIndex;
    std::iota(local_of_.data(), local_of_.data() + shape.num_experts, 0);
    each_list([](const char*, void* data, std::size_t bytes) {
      check_cuda(cudaMemset(data, 0, bytes), "clearing a list");
    });
  }

  void begin_by_two(const SmallCall& call, const Managed<std::byte>& ids,
                    const Managed<std::byte>& weights) {
    const CallParams params = params_of(call, ids, weights);
    constexpr int kBlocks = 3;
    launch_publish(params, sentence_of(call), kBlocks, nullptr);
    launch_build_plan(problem_of(call), plan_.view(), wanted_of(call), nullptr);
    check_cuda(cudaDeviceSynchronize(), "beginning a call");
  }

  bool begin_by_one(const SmallCall& call, const Managed<std::byte>& ids,
                    const Managed<std::byte>& weights, bool copies_x = false,
                    std::int32_t world = 1) {
    CallParams params = params_of(call, ids, weights);
    params.copies_x = copies_x;
    params.world.size = world;
    const bool is_queued =
        launch_small_call(params, sentence_of(call), problem_of(call), wanted_of(call), nullptr);
    check_cuda(cudaDeviceSynchronize(), "beginning a call");
    return is_queued;
  }

  // All memory but times, by name. What has padding, whose bytes mean nothing, as text.
  std::vector<std::pair<std::string, std::vector<std::byte>>> snapshot() const {
    std::vector<std::pair<std::string, std::vector<std::byte>>> all;
    const auto add_host = [&](const char* name, const void* data, std::size_t bytes) {
      const auto* const begin = static_cast<const std::byte*>(data);
      all.emplace_back(name, std::vector<std::byte>(begin, begin + bytes));
    };
    const auto add_text = [&](const char* name, const std::string& text) {
      add_host(name, text.data(), text.size());
    };
    const CallState& state = *state_.data();
    EXPECT_GE(state.times.published_ns, state.times.begin_ns);
    add_text("state",
             fmt::format("{} {} {} {} {} {} {} {} {} {} {}", state.epoch, state.done_blocks,
                         state.bad_index, state.abandoned, state.own_tokens, state.own_fault,
                         static_cast<int>(state.fault.kind), state.fault.code, state.fault.rank,
                         words_of(state.fault.detail), state.metadata_bytes_in));
    std::vector<std::byte> workspace(workspace_.data(), workspace_.data() + workspace_.bytes());
    for (const std::int64_t at : layout_.header) {
      CallHeader header;
      std::memcpy(static_cast<void*>(&header), workspace.data() + at, sizeof(header));
      add_text("header",
               fmt::format("{} {} {} {} {} {}", header.epoch, header.tokens, header.config_hash,
                           header.fault, header.sentence, words_of(header.detail)));
      std::memset(workspace.data() + at, 0, sizeof(header));
    }
    add_host("workspace", workspace.data(), workspace.size());
    add_host("ids", ids_.data(), ids_.bytes());
    add_host("tokens", tokens_.data(), tokens_.bytes());
    add_host("tickets", call_tickets_.data(), call_tickets_.bytes());
    add_host("words", words_.data(), words_.bytes());
    each_list([&](const char* name, const void* data, std::size_t bytes) {
      all.emplace_back(name, download(static_cast<const std::byte*>(data), bytes));
    });
    return all;
  }

 private:
  template <typename Visit>
  void each_list(const Visit& visit) const {
    const auto list = [&](const char* name, auto* data, std::int64_t count) {
      visit(name, data, static_cast<std::size_t>(count) * sizeof(*data));
    };
    const DevicePlanView& plan = plan_.view();
    list("tiles", plan.tiles, capacity_.tiles);
    list("group_tiles", plan.group_tiles, 2);
    list("walk", plan.walk, capacity_.tiles);
    list("needed", plan.needed, capacity_.needed + 1);
    list("rows", plan.rows, capacity_.rows);
    list("blocks", plan.blocks, capacity_.blocks);
    list("group_blocks", plan.group_blocks, 2);
    list("block_tiles", plan.block_tiles, capacity_.block_tiles);
    list("token_sources_begin", plan.token_sources_begin, limits_.max_tokens + 1);
    list("token_sources", plan.token_sources, capacity_.token_sources);
    list("block_sources_begin", plan.block_sources_begin, capacity_.home_blocks + 1);
    list("block_sources", plan.block_sources, capacity_.block_sources);
    list("expert_rows", plan.expert_rows, capacity_.segments);
    list("segment_tile", plan.segment_tile, capacity_.segments);
    list("counters", plan.counters, 1);
    const OverlapOrderView& order = order_.view();
    list("tile_order", order.tile_order, capacity_.tiles);
    list("tile_place", order.tile_place, capacity_.tiles);
    list("arrivals", order.arrivals, capacity_.tiles * 64);
    list("sent", order.sent, kPhases * order.sent_stride);
    list("own", order.own, kPhases * order.own_stride);
    list("num_sent", order.num_sent, kPhases);
    list("num_own", order.num_own, kPhases);
    list("block_needed", order.block_needed, capacity_.blocks);
    list("arrived", order.arrived, capacity_.tiles);
    list("first_done", order.first_done, capacity_.tiles);
    list("second_done", order.second_done, capacity_.tiles * kPanels);
    list("pushed", order.pushed, capacity_.blocks * kPanels);
    list("delivered", order.delivered, capacity_.blocks * kPanels);
    list("seen", order.seen, capacity_.home_blocks * kPanels);
    list("order's tickets", order.tickets, 1);
    list("roles", order.roles, 1);
  }

  CallParams params_of(const SmallCall& call, const Managed<std::byte>& ids,
                       const Managed<std::byte>& weights) {
    CallParams params;
    params.layout = layout_;
    params.dims = dims_;
    params.config.groups = 1;
    params.peers = peers_.data();
    params.state = state_.data();
    params.tickets = call_tickets_.data();
    params.tokens = tokens_.data();
    params.ids = ids_.data();
    params.ids_stride = dims_.max_tokens * dims_.topk;
    params.plan = plan_.view();
    params.copies_x = false;
    params.config_hash = 77;
    params.host_fault = call.host_fault;
    if (call.host_fault == 0) {
      params.topk_ids = ids.data();
      params.ids_are_64 = call.ids_are_64;
      params.topk_weights = weights.data();
      params.weight_type = call.weight_type;
      params.max_call_tokens = call.tokens_on_device ? call.most_tokens : call.tokens;
      *device_tokens_.data() = call.tokens;
      if (call.tokens_on_device) params.device_tokens = device_tokens_.data();
    }
    DeviceWorld& world = params.world;
    world.epoch = words_.data();
    world.busy = words_.data() + 1;
    *world.busy = call.overlaps ? 1 : 0;  // as the end of the call before has left it
    world.failed_seen = words_.data() + 2;
    world.failed = words_.data() + 3;
    world.claim = words_.data() + 4;
    world.progress = progress_.data();
    return params;
  }

  static FaultSentence sentence_of(const SmallCall& call) {
    FaultSentence sentence{};
    if (call.host_fault != 0) std::strcpy(sentence.text, "a fault that the host has found");
    return sentence;
  }

  DevicePlanProblem problem_of(const SmallCall& call) const {
    const std::int32_t most = call.tokens_on_device ? call.most_tokens : call.tokens;
    return {.problem = {.world = 1,
                        .rank = 0,
                        .tp = 1,
                        .topk = static_cast<std::int32_t>(dims_.topk),
                        .num_local = static_cast<std::int32_t>(dims_.num_local),
                        .block_m = 64,
                        .groups = 1,
                        .ep_rank_of = ep_rank_of_.data(),
                        .local_of = local_of_.data(),
                        .tokens = tokens_.data(),
                        .ids = id_pointers_.data()},
            .max_tokens = call.host_fault != 0 ? 0 : most};
  }

  OrderProblem wanted_of(const SmallCall& call) const {
    if (!call.has_order) return {};
    return {.order = order_.view(),
            .choice = {.phases = kPhases},
            .costs = {},
            .num_panels = kPanels,
            .num_blocks = 4};
  }

  const LayerDims dims_;
  const WorkspaceLayout layout_;
  const PlanLimits limits_;
  const PlanCapacity capacity_;
  Managed<std::byte> workspace_;
  Managed<std::byte*> peers_{1};
  Managed<CallState> state_{1};
  Managed<Tickets> call_tickets_{1};
  Managed<std::int32_t> tokens_{1};
  Managed<std::int32_t> device_tokens_{1};
  Managed<std::uint16_t> ids_;
  Managed<const std::uint16_t*> id_pointers_{1};
  Managed<std::int32_t> ep_rank_of_, local_of_;
  Managed<std::uint32_t> words_{5};
  Managed<unsigned long long> progress_{1};
  DevicePlan plan_;
  OverlapOrder order_;
};

// The first memory in which both differ, or "".
std::string difference(const LoneRank& one, const LoneRank& two) {
  const auto a = one.snapshot();
  const auto b = two.snapshot();
  for (std::size_t i = 0; i < a.size(); ++i) {
    const auto& [name, bytes] = a[i];
    if (bytes.size() != b[i].second.size()) return name + " has other lengths";
    for (std::size_t at = 0; at < bytes.size(); ++at) {
      if (bytes[at] == b[i].second[at]) continue;
      return fmt::format("{}: byte {} of {} is {:#x} by one kernel, {:#x} by two", name, at,
                         bytes.size(), std::to_integer<int>(bytes[at]),
                         std::to_integer<int>(b[i].second[at]));
    }
  }
  return "";
}

template <typename T>
void append(std::vector<std::byte>& to, T value) {
  const auto* const bytes = reinterpret_cast<const std::byte*>(&value);
  to.insert(to.end(), bytes, bytes + sizeof(value));
}

SmallCall draw_call(const Shape& shape, std::mt19937& random) {
  Drawing draw(random);
  SmallCall call;
  call.ids_are_64 = draw(0, 1) == 0;
  call.weight_type = std::array{DType::f32, DType::bf16, DType::f16}[draw(0, 2)];
  call.most_tokens = draw(0, 3) == 0 ? shape.max_tokens : draw(0, shape.max_tokens);
  call.tokens = call.most_tokens;
  call.tokens_on_device = draw(0, 3) == 0;
  if (call.tokens_on_device) call.tokens = draw(-1, call.most_tokens + 1);
  if (draw(0, 9) == 0) call.host_fault = draw(1, 5);
  call.overlaps = draw(0, 9) == 0;
  call.has_order = draw(0, 2) != 0;
  const std::int32_t one = draw(0, 7) == 0 ? draw(0, shape.num_experts - 1) : -2;
  const bool has_bad_ids = draw(0, 9) == 0;
  for (std::int32_t i = 0; i < call.most_tokens * shape.topk; ++i) {
    std::int64_t id = one >= 0 ? one : draw(-1, shape.num_experts - 1);
    if (has_bad_ids && draw(0, 20) == 0) id = draw(0, 1) == 0 ? -2 : shape.num_experts;
    if (call.ids_are_64) {
      append(call.ids, id);
    } else {
      append(call.ids, static_cast<std::int32_t>(id));
    }
    if (call.weight_type == DType::f32) {
      append(call.weights, static_cast<float>(i) / 8);
    } else {
      append(call.weights, static_cast<std::uint16_t>(draw(0, 0x3fff)));
    }
  }
  return call;
}

void fill(Managed<std::byte>& to, const std::vector<std::byte>& from) {
  if (!from.empty()) std::memcpy(to.data(), from.data(), from.size());
}

class SmallCalls : public testing::Test {
 protected:
  void SetUp() override { COMET_NEEDS_GPU(); }
};

TEST_F(SmallCalls, OneKernelLeavesWhatTwoDo) {
  std::mt19937 random(20261201);
  for (int problem = 0; problem < 100; ++problem) {
    Drawing draw(random);
    const Shape shape{.num_experts = draw(0, 4) == 0 ? draw(100, 1000) : draw(1, 20),
                      .topk = draw(1, 8),
                      .max_tokens = draw(0, 4) == 0 ? draw(0, 2) : draw(1, 128)};
    LoneRank by_one(shape);
    LoneRank by_two(shape);
    for (int repeat = 0; repeat < 4; ++repeat) {
      const SmallCall call = draw_call(shape, random);
      Managed<std::byte> ids(call.ids.size() + 1);
      Managed<std::byte> weights(call.weights.size() + 1);
      fill(ids, call.ids);
      fill(weights, call.weights);
      ASSERT_TRUE(by_one.begin_by_one(call, ids, weights));
      by_two.begin_by_two(call, ids, weights);
      ASSERT_EQ(difference(by_one, by_two), "")
          << "problem " << problem << ", call " << repeat << ": " << shape.num_experts
          << " experts, topk " << shape.topk << ", " << call.tokens << " tokens of "
          << call.most_tokens << ", host fault " << call.host_fault << ", overlaps "
          << call.overlaps;
    }
  }
}

// Where one kernel has no room, or tokens are more than two blocks, it queues nothing.
TEST_F(SmallCalls, OfManyTokensOrExpertsNothingIsQueued) {
  std::mt19937 random(3);
  for (const Shape& shape : {Shape{.num_experts = 8, .topk = 2, .max_tokens = 200},
                             Shape{.num_experts = 4000, .topk = 4, .max_tokens = 40}}) {
    LoneRank rank(shape);
    SmallCall call = draw_call(shape, random);
    call.host_fault = 0;
    call.tokens_on_device = true;
    call.most_tokens = shape.max_tokens;
    const Managed<std::byte> none(1);
    const auto before = rank.snapshot();
    EXPECT_FALSE(rank.begin_by_one(call, none, none)) << shape.max_tokens;
    EXPECT_EQ(rank.snapshot(), before);
  }
}

TEST_F(SmallCalls, WhereXIsCopiedOrOthersAreThereNothingIsQueued) {
  LoneRank rank({.num_experts = 4, .topk = 1, .max_tokens = 8});
  const SmallCall call;
  const Managed<std::byte> none(1);
  const auto before = rank.snapshot();
  EXPECT_FALSE(rank.begin_by_one(call, none, none, true));
  EXPECT_FALSE(rank.begin_by_one(call, none, none, false, 2));
  EXPECT_EQ(rank.snapshot(), before);
}

}  // namespace
}  // namespace comet::cuda
