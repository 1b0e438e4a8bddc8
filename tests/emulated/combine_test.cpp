// SPDX-License-Identifier: Apache-2.0
// Combine of the fused schedule: warps of all ranks, emulated in one block, push partial sums to
// their homes as products end in any order, and sum them there. Each row of y must be its token's
// sum. Elements are whole numbers, so that every sum is exact.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>

#include "backend/cuda/kernels/overlap_combine.cuh"
#include "cuda/routing.hpp"

namespace comet::cuda::overlap {
namespace {

using Element = std::uint16_t;

constexpr std::uint32_t kEpoch = 9;
constexpr float kNsPerByte = 0.01F;
constexpr int kMostWarps = 32;

struct Case {
  RoutingShape shape;
  std::int64_t hidden = 8;
  std::int64_t panel = kGemmBlockN;
  bool has_host_link = false;
  bool is_paced = false;
  bool is_y_aligned = true;
  bool has_weights = false;  // after the second product, else 1
  bool is_eager = false;
  std::int32_t warps = 1;  // of a rank that combine
  OverlapChoice choice;

  std::string text() const {
    return fmt::format(
        "; hidden {}, panel {}, host link {}, paced {}, y aligned {}, weights {}, eager {}, {} "
        "warps, {} phases, {}, {} "
        "and {} tokens",
        hidden, panel, has_host_link, is_paced, is_y_aligned, has_weights, is_eager, warps,
        choice.phases, choice.tokens_per_push, choice.tokens_per_last_push, choice.tokens_per_home);
  }
};

CombinerState combiner_states[kMostWarps];

CombinerState& state_of_warp() { return combiner_states[threadIdx.x / kLanes]; }

// Memory of all ranks that sums may load from.
class Arena {
 public:
  explicit Arena(std::int64_t bytes) : memory_(bytes), end_(memory_.data()) {}

  std::byte* take(std::int64_t bytes) {
    std::byte* const begin = end_;
    end_ += round_up(bytes, 64);
    return begin;
  }
  const std::byte* begin() const { return memory_.data(); }
  const std::byte* end() const { return end_; }

 private:
  DeviceBuffer<std::byte> memory_;
  std::byte* end_;
};

// Words that all ranks share.
struct SharedWords {
  float ns_per_byte = 0;
  std::vector<unsigned long long> clocks, progress;
  std::vector<DeviceExpiry> expiries;
  std::uint32_t failed = 0, claim = 0;
  std::vector<std::byte*> peers;
  WorkspaceLayout layout = {};
};

class Rank {
 public:
  Rank(const Case& of, const Routing& routing, std::int32_t rank, SharedWords& words, Arena& arena)
      : of_(of),
        plan_(routing.host_plan(rank)),
        dims_{.world = routing.world(),
              .rank = rank,
              .tp = of.shape.tp,
              .num_experts = of.shape.num_experts,
              .topk = of.shape.topk,
              .hidden = of.hidden,
              .max_tokens = of.shape.max_tokens,
              .element_bytes = sizeof(Element),
              .block_m = of.shape.block_m,
              .panel_n = kGemmBlockN},
        panels_(of.hidden, of.panel, kGemmBlockN),
        device_plan_(routing.limits(rank)),
        order_(routing.limits(rank), plan_capacity(routing.limits(rank)).tiles * of.shape.block_m,
               of.choice.phases, panels_.count()),
        tokens_(to_device(tokens_of(routing))),
        row_weights_(static_cast<std::size_t>(row_slots())) {
    const OrderProblem wanted{.order = order_.view(),
                              .choice = of.choice,
                              .costs = {},
                              .num_panels = panels_.count(),
                              .num_blocks = 1};
    launch_build_plan(routing.device_problem(rank), device_plan_.view(), wanted, nullptr);
    order_.view().tickets->starved = 1;  // so nothing is pushed to others before all is pulled
    out_ = reinterpret_cast<Element*>(arena.take(row_slots() * dims_.row_bytes()));
    std::memset(out_, 0x55, static_cast<std::size_t>(row_slots() * dims_.row_bytes()));
    for (std::int64_t row = 0; row < row_slots(); ++row) {
      row_weights_[static_cast<std::size_t>(row)] =
          of.has_weights ? static_cast<float>(1 + row % 3) : -1;
    }
    y_stride_ = of.hidden + (of.is_y_aligned ? 8 : 3);
    y_.assign(static_cast<std::size_t>((dims_.max_tokens + 1) * y_stride_ + 8), kUntouched);
    y_begin_ = y_.data();
    while ((reinterpret_cast<std::uintptr_t>(y_begin_) & 15U) != (of.is_y_aligned ? 0 : 2))
      ++y_begin_;
    state_.epoch = kEpoch;
    describe(routing, words);
  }

  const OverlapParams& params() const { return params_; }

  // A warp: all items of the second product end, panel after panel, in any order of tiles; and
  // before or meanwhile the pulls.
  void end_products(std::mt19937& random) {
    const auto step = [&](auto do_it) {
      if (lane_id() == 0) do_it();
      __syncwarp();
    };
    std::vector<std::int32_t> tiles(plan_.tiles.size());
    for (std::size_t i = 0; i < tiles.size(); ++i) tiles[i] = static_cast<std::int32_t>(i);
    for (std::int32_t panel = 0; panel < panels_.count(); ++panel) {
      if (lane_id() == 0) std::shuffle(tiles.begin(), tiles.end(), random);
      const ColumnRange columns = panels_.columns(panel);
      for (std::size_t i = 0; i < tiles.size(); ++i) {
        for (std::int64_t column = columns.begin; column < columns.end; column += kGemmBlockN) {
          step([&] {
            write_product(tiles[i], column, std::min(column + kGemmBlockN, of_.hidden));
            ++order_.view().second_done[tiles[i] * panels_.count() + panel];
          });
        }
      }
      if (panel == 0) step([&] { order_.view().tickets->pull = 1U << 20; });
      if (panel + 1 == panels_.count()) step([&] { order_.view().tickets->pull_first = 1U << 20; });
    }
  }

  // Where y is not what it should be, or "": `expected` of the rank's tokens.
  std::string fault(const std::vector<std::int64_t>& expected, std::int32_t tokens) const {
    for (std::int64_t token = 0; token < tokens; ++token) {
      for (std::int64_t column = 0; column < of_.hidden; ++column) {
        const Element is = y_begin_[token * y_stride_ + column];
        const std::int64_t wanted = expected[static_cast<std::size_t>(token * of_.hidden + column)];
        if (is == wanted) continue;
        return fmt::format("token {} of {}, column {}: {}, not {}", token, dims_.rank, column, is,
                           wanted);
      }
      for (std::int64_t column = of_.hidden; column < y_stride_; ++column) {
        if (y_begin_[token * y_stride_ + column] != kUntouched)
          return fmt::format("written after token {}", token);
      }
    }
    return "";
  }

  // Adds what this rank's rows give the tokens of `sums` [rank][token, column].
  void add_rows(std::vector<std::vector<std::int64_t>>& sums) const {
    for (const BlockTransfer& block : plan_.blocks) {
      for (std::int32_t n = block.needed_begin; n < block.needed_end; ++n) {
        for (const NeededRow& row : plan_.rows_of(n)) {
          const auto weight =
              of_.has_weights ? static_cast<std::int64_t>(row_weights_[row.row]) : 1;
          for (std::int64_t column = 0; column < of_.hidden; ++column) {
            sums[block.source]
                [static_cast<std::size_t>(plan_.needed[n].token * of_.hidden + column)] +=
                weight * product_of(row.row, column);
          }
        }
      }
    }
  }

 private:
  static constexpr Element kUntouched = 0xabcd;

  static std::vector<std::int32_t> tokens_of(const Routing& routing) {
    const PlanProblem problem = routing.host_problem(0);
    return {problem.tokens, problem.tokens + routing.world()};
  }

  std::int64_t row_slots() const {
    return std::max<std::int64_t>(std::ssize(plan_.tiles), 1) * dims_.block_m;
  }

  // What the second product gives.
  Element product_of(std::int64_t row, std::int64_t column) const {
    return static_cast<Element>((row * 31 + column * 7 + dims_.rank) % 97);
  }

  void write_product(std::int64_t tile, std::int64_t begin, std::int64_t end) const {
    for (std::int64_t row = tile * dims_.block_m; row < (tile + 1) * dims_.block_m; ++row) {
      for (std::int64_t column = begin; column < end; ++column) {
        out_[row * of_.hidden + column] = product_of(row, column);
      }
    }
  }

  void describe(const Routing& routing, SharedWords& words) {
    params_.order = order_.view();
    params_.choice = of_.choice;
    params_.num_panels = panels_.count();
    CallParams& call = params_.call;
    call.dims = dims_;
    call.panels = panels_;
    call.plan = device_plan_.view();
    call.state = &state_;
    call.tokens = tokens_.data();
    call.peers = words.peers.data();
    call.layout = words.layout;
    call.out = reinterpret_cast<std::byte*>(out_);
    call.row_weights = row_weights_.data();
    call.weights_after_down = of_.has_weights;
    call.y = reinterpret_cast<std::byte*>(y_begin_);
    call.y_stride_bytes = y_stride_ * static_cast<std::int64_t>(sizeof(Element));
    call.y_rows = static_cast<std::int32_t>(dims_.max_tokens);
    call.world = {.rank = dims_.rank,
                  .size = routing.world(),
                  .host_link = of_.has_host_link,
                  .timeout_ns = ~0ULL,
                  .failed_seen = &failed_seen_,
                  .next_look = &next_look_,
                  .ns_per_byte = &words.ns_per_byte,
                  .clocks = words.clocks.data(),
                  .failed = &words.failed,
                  .claim = &words.claim,
                  .progress = words.progress.data(),
                  .expiries = words.expiries.data()};
  }

  const Case& of_;
  Plan plan_;
  LayerDims dims_;
  Panels panels_;
  DevicePlan device_plan_;
  OverlapOrder order_;
  DeviceBuffer<std::int32_t> tokens_;
  Element* out_ = nullptr;
  std::vector<float> row_weights_;
  std::int64_t y_stride_ = 0;
  std::vector<Element> y_;
  Element* y_begin_ = nullptr;
  CallState state_;
  std::uint32_t failed_seen_ = 0;
  unsigned long long next_look_ = 0;
  OverlapParams params_;
};

class World {
 public:
  World(const Case& of, const Routing& routing)
      : of_(of), routing_(routing), arena_(bytes_of(of, routing)) {
    const std::int64_t world = routing.world();
    words_.ns_per_byte = of.is_paced ? kNsPerByte : 0;
    words_.clocks.assign(static_cast<std::size_t>(2 * world), 0);
    words_.progress.assign(static_cast<std::size_t>(world), 0);
    words_.expiries.resize(static_cast<std::size_t>(world));
    words_.layout.combine_slots = 0;
    words_.layout.combine = round_up(slots() * 4, 64);
    for (std::int64_t rank = 0; rank < world; ++rank) {
      std::byte* const begin = arena_.take(workspace_bytes(of, routing));
      for (std::int64_t slot = 0; slot < slots(); ++slot) {
        const std::uint32_t before = kEpoch - 1 - static_cast<std::uint32_t>(slot % 2);
        std::memcpy(begin + slot * 4, &before, 4);
      }
      words_.peers.push_back(begin);
    }
    ranks_.reserve(static_cast<std::size_t>(world));
    for (std::int32_t rank = 0; rank < world; ++rank)
      ranks_.emplace_back(of, routing, rank, words_, arena_);
  }

  void run(std::mt19937& random) {
    const auto world = static_cast<unsigned>(routing_.world());
    const unsigned num_warps = world * static_cast<unsigned>(of_.warps + 1);
    sum_memory = {.shared = std::vector<std::byte>(num_warps * SumBuffers::kBytes, std::byte{0xff}),
                  .entries_begin = arena_.begin(),
                  .entries_end = arena_.end(),
                  .is_eager = of_.is_eager};
    emulated::run_grid(1, num_warps * kLanes, false, [&] {
      const unsigned warp = threadIdx.x / kLanes;
      Rank& rank = ranks_[warp % world];
      if (warp < world) return rank.end_products(random);
      const SumBuffers buffers{warp * SumBuffers::kBytes};
      if (!Combiner<Element, state_of_warp>(rank.params(), buffers).run()) {
        emulated::fail_thread("combine has given up");
      }
    });
  }

  std::string fault() const {
    const PlanProblem problem = routing_.host_problem(0);
    std::vector<std::vector<std::int64_t>> sums;
    for (std::int32_t rank = 0; rank < routing_.world(); ++rank) {
      sums.emplace_back(static_cast<std::size_t>(problem.tokens[rank] * of_.hidden), 0);
    }
    for (const Rank& rank : ranks_) rank.add_rows(sums);
    for (std::int32_t rank = 0; rank < routing_.world(); ++rank) {
      const std::string fault =
          ranks_[static_cast<std::size_t>(rank)].fault(sums[rank], problem.tokens[rank]);
      if (!fault.empty()) return fault;
    }
    return "";
  }

 private:
  std::int64_t slots() const { return slots_of(of_, routing_); }
  static std::int64_t slots_of(const Case& of, const Routing& routing) {
    const Panels panels(of.hidden, of.panel, kGemmBlockN);
    return routing.world() * panels.count() *
           std::max<std::int64_t>(num_token_blocks(of.shape.max_tokens), 1);
  }
  static std::int64_t workspace_bytes(const Case& of, const Routing& routing) {
    return round_up(slots_of(of, routing) * 4, 64) +
           routing.world() * of.shape.max_tokens * of.hidden * 2;
  }
  static std::int64_t bytes_of(const Case& of, const Routing& routing) {
    std::int64_t bytes = 0;
    for (std::int32_t rank = 0; rank < routing.world(); ++rank) {
      bytes += workspace_bytes(of, routing) + 128;
      bytes +=
          (std::ssize(routing.host_plan(rank).tiles) + 1) * of.shape.block_m * of.hidden * 2 + 128;
    }
    return bytes;
  }

  const Case& of_;
  const Routing& routing_;
  Arena arena_;
  SharedWords words_;
  std::vector<Rank> ranks_;
};

Case draw_case(std::mt19937& random) {
  Drawing draw(random);
  Case of;
  of.shape = draw_shape(random);
  of.shape.groups = 1;
  of.shape.ep = std::min(of.shape.ep, draw(1, 4));
  of.shape.max_tokens = std::min(of.shape.max_tokens, draw(0, 140));
  of.hidden = 8 * (draw(0, 2) == 0 ? draw(64, 200) : draw(1, 64));
  of.panel = kGemmBlockN * draw(1, 4);
  of.has_host_link = draw(0, 3) == 0;
  of.is_paced = draw(0, 2) == 0;
  of.is_y_aligned = draw(0, 3) != 0;
  of.has_weights = draw(0, 1) == 0;
  of.is_eager = draw(0, 1) == 0;
  of.warps = draw(1, 3);
  of.choice.phases = draw(0, 1) == 0 ? 1 : draw(2, 4);
  of.choice.first_tiles = draw(0, 5);
  of.choice.tokens_per_push = draw(1, kLanes);
  of.choice.tokens_per_last_push = draw(1, kLanes);
  of.choice.tokens_per_home = 1 << draw(0, 5);
  return of;
}

TEST(Combine, EachTokenGetsItsSum) {
  std::mt19937 random(20261130);
  for (int trial = 0; trial < 150; ++trial) {
    const Case of = draw_case(random);
    Routing routing(of.shape, random);
    routing.redraw(random, static_cast<Draw>(random() % 3), random() % 4 == 0);
    World world(of, routing);
    world.run(random);
    ASSERT_EQ(world.fault(), "") << "trial " << trial << ": " << routing.describe(0) << of.text();
  }
}

}  // namespace
}  // namespace comet::cuda::overlap
