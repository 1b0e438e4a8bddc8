// SPDX-License-Identifier: Apache-2.0
// Tokens come to their rows in the fused schedule: warps of an emulated block gather own ones and
// pull those of other ranks, for random routings, with every way of copying. Each row must hold its
// token and its weight, and each tile count its rows once.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <random>

#include "backend/cuda/kernels/overlap_copies.cuh"
#include "cuda/routing.hpp"

namespace comet::cuda::overlap {
namespace {

constexpr std::uint32_t kEpoch = 7;
constexpr float kNsPerByte = 0.01F;
constexpr std::int32_t kPullBytes = 16384;
constexpr std::int32_t kBarrierBytes = 16;  // apart

// How tokens come to a rank.
enum class Way { bulk, host_link, puts };

struct Case {
  RoutingShape shape;
  std::int64_t hidden = 8;  // elements of 2 bytes
  Way way = Way::bulk;
  bool is_paced = false;
  bool has_own_copy =
      false;  // own tokens come from the workspace, else from rows with gaps between
  OverlapChoice choice;
  std::int32_t num_blocks = 1;
  std::int32_t math_warps = 8;

  std::string text() const {
    return fmt::format(
        "; hidden {}, way {}, paced {}, own copy {}, {} first tiles, {} and {} slots, {} pull "
        "warps, {} blocks, "
        "dedicated {}, {} math warps",
        hidden, static_cast<int>(way), is_paced, has_own_copy, choice.first_tiles,
        choice.slots_per_first_pull, choice.slots_per_pull, choice.pull_warps, num_blocks,
        choice.is_dedicated, math_warps);
  }
};

// The tokens of all ranks, and their weights, at the places of a layout of these tests' own.
class Workspaces {
 public:
  Workspaces(const Case& of, const Routing& routing, const LayerDims& dims) : dims_(dims) {
    layout_.weights[kEpoch & 1U] = 64;
    layout_.sent = round_up(64 + dims.max_tokens * dims.weight_bytes(), 64);
    const std::int64_t num_blocks = num_token_blocks(dims.max_tokens);
    layout_.x = round_up(layout_.sent + routing.world() * num_blocks * 4, 64);
    const auto bytes = static_cast<std::size_t>(
        layout_.x + std::max<std::int64_t>(dims.max_tokens, 1) * dims.row_bytes());
    for (std::int32_t rank = 0; rank < routing.world(); ++rank) {
      memory_.emplace_back(static_cast<std::int64_t>(bytes));
      std::byte* const begin = memory_.back().data();
      for (std::int64_t token = 0; token < dims.max_tokens; ++token) {
        for (std::int64_t i = 0; i < dims.row_bytes(); ++i) {
          begin[layout_.x + token * dims.row_bytes() + i] = token_byte(rank, token, i);
        }
        for (std::int32_t choice = 0; choice < dims.topk; ++choice) {
          const float weight = weight_of(rank, token, choice);
          std::memcpy(begin + layout_.weights[kEpoch & 1U] + (token * dims.topk + choice) * 4,
                      &weight, 4);
        }
      }
      for (std::int64_t slot = 0; slot < routing.world() * num_blocks; ++slot) {
        std::memcpy(begin + layout_.sent + slot * 4, &kEpoch, 4);
      }
      peers_.push_back(begin);
    }
    // Own tokens are read here alone, if not from the workspace: that then holds none.
    own_stride_ = dims.row_bytes() + 16;
    own_x_ = DeviceBuffer<std::byte>(std::max<std::int64_t>(dims.max_tokens, 1) * own_stride_);
    for (std::int64_t token = 0; token < dims.max_tokens; ++token) {
      for (std::int64_t i = 0; i < dims.row_bytes(); ++i) {
        own_x_.data()[token * own_stride_ + i] = token_byte(dims.rank, token, i);
      }
    }
    if (!of.has_own_copy) {
      std::memset(peers_[dims.rank] + layout_.x, 0xee, bytes - static_cast<std::size_t>(layout_.x));
    }
  }

  static std::byte token_byte(std::int64_t rank, std::int64_t token, std::int64_t i) {
    return static_cast<std::byte>((rank * 71 + token * 13 + i * 7 + (i >> 8) + (token >> 4)) % 251);
  }
  static float weight_of(std::int64_t rank, std::int64_t token, std::int64_t choice) {
    return static_cast<float>(rank * 10000 + token * 10 + choice);
  }

  void describe_to(const Case& of, CallParams& params) const {
    params.peers = peers_.data();
    params.layout = layout_;
    params.own_x = of.has_own_copy ? peers_[dims_.rank] + layout_.x : own_x_.data();
    params.own_x_stride_bytes = of.has_own_copy ? dims_.row_bytes() : own_stride_;
  }

 private:
  LayerDims dims_;
  WorkspaceLayout layout_ = {};
  std::vector<DeviceBuffer<std::byte>> memory_;
  std::vector<std::byte*> peers_;
  std::int64_t own_stride_ = 0;
  DeviceBuffer<std::byte> own_x_;
};

// One rank's copies.
class RankCopies {
 public:
  RankCopies(const Case& of, const Routing& routing, std::int32_t rank)
      : of_(of),
        plan_(routing.host_plan(rank)),
        dims_(dims_of(of, routing, rank)),
        workspaces_(of, routing, dims_),
        device_plan_(routing.limits(rank)),
        order_(routing.limits(rank), plan_capacity(routing.limits(rank)).tiles * of.shape.block_m,
               1, 1),
        rows_(std::max<std::int64_t>(row_slots() * dims_.row_bytes(), 16)),
        row_weights_(std::max<std::int64_t>(row_slots(), 1)),
        is_remote_(static_cast<std::size_t>(routing.world()), of.way == Way::puts ? 1 : 0),
        clocks_(static_cast<std::size_t>(2 * routing.world()), 0) {
    const OrderProblem wanted{.order = order_.view(),
                              .choice = of.choice,
                              .costs = {},
                              .num_panels = 1,
                              .num_blocks = of.num_blocks};
    launch_build_plan(routing.device_problem(rank), device_plan_.view(), wanted, nullptr);
    state_.epoch = kEpoch;
    params_.order = order_.view();
    params_.choice = of.choice;
    CallParams& call = params_.call;
    call.dims = dims_;
    call.plan = device_plan_.view();
    call.state = &state_;
    call.world.rank = rank;
    call.world.size = routing.world();
    call.world.ns_per_byte = of.is_paced ? &kNsPerByte : &no_pace_;
    call.world.clocks = clocks_.data();
    call.world.host_link = of.way == Way::host_link;
    call.world.is_remote = of.way == Way::puts ? is_remote_.data() : nullptr;
    call.rows = rows_.data();
    call.row_weights = row_weights_.data();
    workspaces_.describe_to(of, call);
  }

  void run(std::mt19937& random) {
    const auto num_warps = static_cast<unsigned>(kCopyWarps + of_.math_warps);
    const bool has_eager_loads = random() % 2 == 0;
    const bool has_eager_stores = random() % 2 == 0;
    emulated::run_grid(static_cast<unsigned>(of_.num_blocks), num_warps * kLanes, false, [&] {
      if (threadIdx.x == 0) {
        bulk_memory = {.shared = std::vector<std::byte>(kBarriersAt),
                       .has_eager_loads = has_eager_loads,
                       .has_eager_stores = has_eager_stores};
      }
      __syncthreads();
      if (of_.shape.block_m == 64) {
        work<64>();
      } else {
        work<128>();
      }
      __syncthreads();
      if (threadIdx.x != 0) return;
      for (const auto& [thread, own] : bulk_memory.threads) {
        if (!own.issued.empty() || !own.groups.empty()) {
          emulated::fail_thread("left stores that nobody waited for");
        }
      }
    });
  }

  // As if `dead` had never put its tokens, and the host said so.
  void lose(std::int32_t dead) {
    failed_ = kHostFailed;
    DeviceWorld& world = params_.call.world;
    world.failed = &failed_;
    world.failed_seen = &failed_seen_;
    world.next_look = &next_look_;
    world.timeout_ns = ~0ULL;
    const std::int64_t num_blocks = num_token_blocks(dims_.max_tokens);
    auto* const slots =
        reinterpret_cast<std::uint32_t*>(params_.call.peers[world.rank] + params_.call.layout.sent);
    for (std::int64_t block = 0; block < num_blocks; ++block) {
      slots[sent_slot(dead, block, num_blocks)] = kEpoch - 1;
    }
  }

  bool is_abandoned() const { return state_.abandoned != 0; }
  bool pulls_are_left() const { return has_pulls_left(params_); }

  // Where rows are not what they should be, or "".
  std::string fault() const {
    if (state_.abandoned != 0) return "the call was abandoned";
    for (std::size_t tile = 0; tile < plan_.tiles.size(); ++tile) {
      const std::uint32_t arrived = order_.view().arrived[tile];
      if (arrived != static_cast<std::uint32_t>(plan_.tiles[tile].rows)) {
        return fmt::format("tile {}: {} rows have arrived of {}", tile, arrived,
                           plan_.tiles[tile].rows);
      }
    }
    for (const BlockTransfer& block : plan_.blocks) {
      for (std::int32_t n = block.needed_begin; n < block.needed_end; ++n) {
        for (const NeededRow& row : plan_.rows_of(n)) {
          const std::string fault = row_fault(block.source, plan_.needed[n].token, row);
          if (!fault.empty()) return fault;
        }
      }
    }
    return "";
  }

 private:
  static constexpr std::uint32_t kSumsAt = kPullBytes;
  static constexpr std::uint32_t kBarriersAt = kSumsAt + (kCopyWarps - 1) * SumBuffers::kBytes;

  static LayerDims dims_of(const Case& of, const Routing& routing, std::int32_t rank) {
    return {.world = routing.world(),
            .rank = rank,
            .tp = of.shape.tp,
            .num_experts = of.shape.num_experts,
            .topk = of.shape.topk,
            .hidden = of.hidden,
            .max_tokens = of.shape.max_tokens,
            .element_bytes = 2,
            .block_m = of.shape.block_m};
  }

  std::int64_t row_slots() const { return std::ssize(plan_.tiles) * dims_.block_m; }

  // What the fused kernel's warps do before they multiply, and beside products.
  template <int BLOCK_M>
  void work() const {
    const int warp = static_cast<int>(threadIdx.x) / kLanes;
    if (warp >= kCopyWarps) return bring_before_products<BLOCK_M>(params_);
    bring_beside_products<BLOCK_M>(
        params_, warp, warp == 0 ? 0 : kSumsAt + (warp - 1) * SumBuffers::kBytes,
        warp == 0 ? kPullBytes : SumBuffers::kBytes, kBarriersAt + warp * Puller::kMostBuffers * 8);
  }

  std::string row_fault(std::int32_t source, std::int32_t token, const NeededRow& row) const {
    const float weight = row_weights_.data()[row.row];
    if (weight != Workspaces::weight_of(source, token, row.choice)) {
      return fmt::format("row {}, token {} of {}: weight {}", row.row, token, source, weight);
    }
    const std::byte* at = rows_.data() + row.row * dims_.row_bytes();
    for (std::int64_t i = 0; i < dims_.row_bytes(); ++i) {
      if (at[i] == Workspaces::token_byte(source, token, i)) continue;
      return fmt::format("row {}, token {} of {}: byte {} of {}", row.row, token, source, i,
                         dims_.row_bytes());
    }
    return "";
  }

  const Case& of_;
  const float no_pace_ = 0;
  Plan plan_;
  LayerDims dims_;
  Workspaces workspaces_;
  DevicePlan device_plan_;
  OverlapOrder order_;
  DeviceBuffer<std::byte> rows_;
  DeviceBuffer<float> row_weights_;
  std::vector<std::uint8_t> is_remote_;
  std::vector<unsigned long long> clocks_;
  CallState state_;
  std::uint32_t failed_ = 0;
  std::uint32_t failed_seen_ = 0;
  unsigned long long next_look_ = 0;
  OverlapParams params_;
};

Case draw_case(std::mt19937& random) {
  Drawing draw(random);
  Case of;
  of.shape = draw_shape(random);
  of.shape.groups = 1;
  of.shape.block_m = 64 * draw(1, 2);
  of.shape.max_tokens = std::min(of.shape.max_tokens, 150);
  of.hidden = 8 * (draw(0, 3) == 0 ? draw(128, 700) : draw(1, 128));
  of.way = std::array{Way::bulk, Way::bulk, Way::host_link,
                      Way::puts}[static_cast<std::size_t>(draw(0, 3))];
  of.is_paced = draw(0, 2) == 0;
  of.has_own_copy = draw(0, 1) == 0;
  of.num_blocks = draw(1, 3);
  of.math_warps = draw(0, 8);
  of.choice.first_tiles = draw(0, 3) == 0 ? draw(0, 2) : draw(0, 40);
  of.choice.slots_per_pull = draw(1, 32);
  of.choice.slots_per_first_pull = draw(1, 32);
  of.choice.pull_warps = draw(1, kCopyWarps);
  of.choice.is_dedicated = draw(0, 3) == 0;
  return of;
}

TEST(Copies, EachRowGetsItsTokenAndWeight) {
  std::mt19937 random(20261130);
  for (int trial = 0; trial < 400; ++trial) {
    const Case of = draw_case(random);
    Routing routing(of.shape, random);
    routing.redraw(random, static_cast<Draw>(random() % 3), random() % 4 == 0);
    const auto rank = static_cast<std::int32_t>(random() % static_cast<unsigned>(routing.world()));
    RankCopies copies(of, routing, rank);
    copies.run(random);
    ASSERT_FALSE(copies.pulls_are_left());
    ASSERT_EQ(copies.fault(), "") << "trial " << trial << ": " << routing.describe(rank)
                                  << of.text();
  }
}

// The warps leave, and no tile of which a row is missing counts all of them.
TEST(Copies, OfADeadRemoteRankEnd) {
  std::mt19937 random(7);
  int num_abandoned = 0;
  for (int trial = 0; trial < 100; ++trial) {
    Case of = draw_case(random);
    of.way = Way::puts;
    Routing routing(of.shape, random);
    routing.redraw(random, static_cast<Draw>(random() % 3), false);
    if (routing.world() < 2) continue;
    RankCopies copies(of, routing, 0);
    copies.lose(1);
    copies.run(random);
    num_abandoned += copies.is_abandoned() ? 1 : 0;
    EXPECT_EQ(copies.fault().empty(), !copies.is_abandoned());
  }
  EXPECT_GT(num_abandoned, 10);
}

}  // namespace
}  // namespace comet::cuda::overlap
