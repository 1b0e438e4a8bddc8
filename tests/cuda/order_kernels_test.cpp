// SPDX-License-Identifier: Apache-2.0
// The order that the device makes for the fused schedule against what the host derives from its own
// plan by sorting: all that the fused kernel reads of it, for random routings.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "backend/cuda/kernels/overlap_order.hpp"
#include "cuda/gpu_test.hpp"
#include "cuda/routing.hpp"

namespace comet::cuda {
namespace {

constexpr std::int32_t kMaxPhases = 8;
constexpr std::int32_t kMaxPanels = 5;

class OrderKernels : public testing::Test {
 protected:
  void SetUp() override { COMET_NEEDS_GPU(); }
};

// What a call chooses.
struct OrderCall {
  OverlapChoice choice;
  std::int32_t num_panels = 1;
  std::int32_t num_blocks = 2;  // of the fused kernel
  // How long the link takes beside the products; below 0: nobody knows, but it is slow.
  double link_over_products = -1;
  // What uniform routing would copy, over what the call does.
  double uniform_over_actual = 1;

  std::string describe() const {
    return fmt::format(
        "; {} phases, {} waves{}, link {} of products, {} panels, {} blocks, n_c {} and {}, "
        "dedicated {}, follows {}, uniform {} of it",
        choice.phases, choice.waves, choice.has_waves_if_slow ? " if it is slow" : "",
        link_over_products, num_panels, num_blocks, choice.n_c_dispatch, choice.n_c_combine,
        choice.is_dedicated, choice.follows_counts, uniform_over_actual);
  }
};

// A needed token: what its entries must say, and where they belong.
struct TokenTruth {
  TokenRows entry;
  std::int32_t first_tile;
  std::int32_t phase;
};

struct OrderTruth {
  std::vector<std::int32_t> tile_order, tile_place;
  std::vector<TokenTruth> tokens;  // [needed]
};

void sort_tiles(const Plan& plan, std::int32_t waves, OrderTruth& truth) {
  std::vector<std::int32_t> num_tiles(plan.expert_rows.size(), 0);
  for (const Tile& tile : plan.tiles) ++num_tiles[tile.expert];
  std::vector<std::int32_t> next(num_tiles.size(), 0);
  std::vector<std::tuple<std::int32_t, std::int32_t, std::int32_t>> keys;
  for (const Tile& tile : plan.tiles) {
    const std::int32_t wave = next[tile.expert]++ * waves / num_tiles[tile.expert];
    keys.emplace_back(wave, tile.expert, static_cast<std::int32_t>(keys.size()));
  }
  std::sort(keys.begin(), keys.end());
  truth.tile_place.resize(keys.size());
  for (const auto& key : keys) {
    const std::int32_t tile = std::get<2>(key);
    truth.tile_place[tile] = static_cast<std::int32_t>(truth.tile_order.size());
    truth.tile_order.push_back(tile);
  }
}

// Unless they are asked for, waves are for slow links, and then only if something goes over it.
std::int32_t waves_of(const OrderCall& call, const Plan& plan) {
  if (!call.choice.has_waves_if_slow || call.link_over_products < 0) return call.choice.waves;
  return call.link_over_products > 1 && plan.tokens_in > 0 ? call.choice.waves : 1;
}

OrderTruth make_truth(const Plan& plan, const PlanProblem& problem, const OrderCall& call) {
  const OverlapChoice& choice = call.choice;
  const std::int32_t block_m = problem.block_m;
  OrderTruth truth;
  sort_tiles(plan, waves_of(call, plan), truth);
  const auto num_tiles = static_cast<std::int32_t>(plan.tiles.size());
  for (const BlockTransfer& block : plan.blocks) {
    for (std::int32_t n = block.needed_begin; n < block.needed_end; ++n) {
      std::vector<std::int32_t> places;
      for (const NeededRow& row : plan.rows_of(n)) {
        places.push_back(truth.tile_place[row.row / block_m]);
      }
      const auto [first, last] = std::minmax_element(places.begin(), places.end());
      std::int32_t phase = 0;
      while (phase_begin(num_tiles, choice.phases, phase + 1) <= *last) ++phase;
      truth.tokens.push_back({{plan.needed[n].token, static_cast<std::int16_t>(block.source),
                               static_cast<std::int16_t>(places.size()), plan.needed[n].row_begin,
                               truth.tile_order[*last]},
                              truth.tile_order[*first],
                              phase});
    }
  }
  return truth;
}

bool operator==(const TokenRows& a, const TokenRows& b) {
  return a.token == b.token && a.source == b.source && a.num_rows == b.num_rows &&
         a.row_begin == b.row_begin && a.last_tile == b.last_tile;
}

std::string text(const TokenRows& rows) {
  return fmt::format("(token {} of {}, {} rows from {}, last tile {})", rows.token, rows.source,
                     rows.num_rows, rows.row_begin, rows.last_tile);
}

// The order of one call on a rank against the truth. Each function returns the first fault that it
// finds, or "".
class OrderCheck {
 public:
  OrderCheck(const Plan& plan, const PlanProblem& problem, const OrderCall& call,
             const OverlapOrderView& view)
      : plan_(plan),
        problem_(problem),
        call_(call),
        view_(view),
        truth_(make_truth(plan, problem, call)) {}

  std::string faults() const {
    return tiles() + counters() + blocks() + arrivals() + lists() +
           role("pullers", &OverlapRoles::pullers, call_.choice.n_c_dispatch) +
           role("pushers", &OverlapRoles::pushers, call_.choice.n_c_combine);
  }

 private:
  std::string tiles() const {
    return difference("tile_order", view_.tile_order, truth_.tile_order) +
           difference("tile_place", view_.tile_place, truth_.tile_place);
  }

  std::string counters() const {
    const std::size_t tiles = plan_.tiles.size();
    const OverlapTickets tickets = download(view_.tickets, 1).front();
    const bool has_tickets = tickets.gather_first != 0 || tickets.gather != 0 ||
                             tickets.pull != 0 || tickets.pull_first != 0 || tickets.compute != 0 ||
                             tickets.push != 0 || tickets.home != 0 || tickets.starved != 0 ||
                             tickets.next_look != 0;
    return zeros("arrived", view_.arrived, tiles) + zeros("first_done", view_.first_done, tiles) +
           zeros("second_done", view_.second_done, tiles * call_.num_panels) +
           zeros("seen", view_.seen, std::size_t(view_.home_blocks) * call_.num_panels) +
           (has_tickets ? "tickets are not zero\n" : "");
  }

  // Cells that nobody needs a token of are not read.
  std::string blocks() const {
    std::vector<std::int32_t> needed(std::size_t(problem_.world) * view_.home_blocks, 0);
    for (const TokenTruth& token : truth_.tokens) {
      ++needed[token.entry.source * view_.home_blocks + token.entry.token / kTokenBlock];
    }
    const auto seen = download(view_.block_needed, needed.size());
    for (std::size_t cell = 0; cell < needed.size(); ++cell) {
      if (needed[cell] == 0) continue;
      if (seen[cell] != needed[cell]) {
        return fmt::format("block_needed[{}]: {}, not {}\n", cell, seen[cell], needed[cell]);
      }
      const std::size_t first = cell * call_.num_panels;
      const std::string fault = zeros("pushed", view_.pushed + first, call_.num_panels) +
                                zeros("delivered", view_.delivered + first, call_.num_panels);
      if (!fault.empty()) return fmt::format("cell {}: {}", cell, fault);
    }
    return "";
  }

  // One row of each token says what is to arrive, in the first of its tiles.
  std::string arrivals() const {
    const auto arrivals = download(view_.arrivals, plan_.tiles.size() * problem_.block_m);
    for (std::size_t n = 0; n < truth_.tokens.size(); ++n) {
      const TokenTruth& token = truth_.tokens[n];
      int carriers = 0;
      for (const NeededRow& row : plan_.rows_of(static_cast<std::int64_t>(n))) {
        const TokenRows& arrival = arrivals[row.row];
        if (arrival.source == -1) continue;
        ++carriers;
        if (arrival != token.entry || row.row / problem_.block_m != token.first_tile) {
          return fmt::format("arrivals[{}]: {}, not {} in tile {}\n", row.row, text(arrival),
                             text(token.entry), token.first_tile);
        }
      }
      if (carriers != 1) {
        return fmt::format("arrivals: {} rows carry {}\n", carriers, text(token.entry));
      }
    }
    return "";
  }

  std::string lists() const {
    std::vector<int> listed(truth_.tokens.size(), 0);
    const std::string faults =
        list("sent", false, view_.sent, view_.num_sent, view_.sent_stride, listed) +
        list("own", true, view_.own, view_.num_own, view_.own_stride, listed);
    if (!faults.empty()) return faults;
    for (std::size_t n = 0; n < listed.size(); ++n) {
      if (listed[n] == 1) continue;
      return fmt::format("{} is listed {} times\n", text(truth_.tokens[n].entry), listed[n]);
    }
    return call_.choice.phases == 1 ? order_of_lists() : "";
  }

  // With one phase both lists are in the order of needed tokens, of which own ones come first.
  std::string order_of_lists() const {
    std::vector<TokenRows> entries =
        download(view_.own, static_cast<std::size_t>(download(view_.num_own, 1).front()));
    const auto sent =
        download(view_.sent, static_cast<std::size_t>(download(view_.num_sent, 1).front()));
    entries.insert(entries.end(), sent.begin(), sent.end());
    for (std::size_t n = 0; n < entries.size(); ++n) {
      if (entries[n] == truth_.tokens[n].entry) continue;
      return fmt::format("own and sent tokens: {} stands where {} belongs\n", text(entries[n]),
                         text(truth_.tokens[n].entry));
    }
    return "";
  }

  // Counts in `listed` the entries of each token, which must be right and in its list and phase.
  std::string list(const char* name, bool own, const TokenRows* begin, const std::int32_t* counts,
                   std::int64_t stride, std::vector<int>& listed) const {
    const auto lengths = download(counts, call_.choice.phases);
    for (std::int32_t phase = 0; phase < call_.choice.phases; ++phase) {
      if (lengths[phase] < 0 || lengths[phase] > stride) {
        return fmt::format("num_{}[{}]: {}, room is for {}\n", name, phase, lengths[phase], stride);
      }
      for (const TokenRows& entry : download(begin + phase * stride, lengths[phase])) {
        // Tokens and their rows have the same order.
        const auto token = std::lower_bound(
            truth_.tokens.begin(), truth_.tokens.end(), entry.row_begin,
            [](const TokenTruth& a, std::int32_t row) { return a.entry.row_begin < row; });
        if (token == truth_.tokens.end() || entry != token->entry || is_own(*token) != own ||
            token->phase != phase) {
          return fmt::format("{} of phase {} has the entry {}\n", name, phase, text(entry));
        }
        ++listed[token - truth_.tokens.begin()];
      }
    }
    return "";
  }

  std::string role(const char* name, std::int32_t OverlapRoles::*field, std::int32_t n_c) const {
    const std::int32_t seen = download(view_.roles, 1).front().*field;
    const bool dedicated = call_.choice.is_dedicated;
    // Dedicated blocks leave one for products, where there is another.
    const std::int32_t most = std::max(call_.num_blocks - (dedicated ? 1 : 0), 1);
    std::int32_t low = dedicated ? 1 : most;
    std::int32_t high = most;
    if (n_c > 0) {
      low = high = std::min(n_c, most);
      const bool follows = dedicated && call_.choice.follows_counts;
      if (follows && call_.uniform_over_actual < 1) high = most;
      if (follows && call_.uniform_over_actual > 1) low = 1;
    }
    if (seen >= low && seen <= high) return "";
    return fmt::format("{}: {}, allowed are {} to {}\n", name, seen, low, high);
  }

  bool is_own(const TokenTruth& token) const { return token.entry.source == problem_.rank; }

  static std::string difference(const char* name, const std::int32_t* words,
                                const std::vector<std::int32_t>& expected) {
    const auto seen = download(words, expected.size());
    for (std::size_t i = 0; i < seen.size(); ++i) {
      if (seen[i] == expected[i]) continue;
      return fmt::format("{}[{}] of {}: {}, not {}\n", name, i, seen.size(), seen[i], expected[i]);
    }
    return "";
  }

  template <typename T>
  static std::string zeros(const char* name, const T* counters, std::size_t count) {
    const auto seen = download(counters, count);
    for (std::size_t i = 0; i < count; ++i) {
      if (seen[i] != 0) return fmt::format("{}[{}] of {}: {}, not 0\n", name, i, count, seen[i]);
    }
    return "";
  }

  const Plan& plan_;
  PlanProblem problem_;
  OrderCall call_;
  OverlapOrderView view_;
  OrderTruth truth_;
};

// What a rank copies for each of its rows.
struct PerRow {
  double pulls = 0;
  double pushes = 0;
};

PerRow copies_of(const Plan& plan, std::int32_t rank) {
  if (plan.rows.empty()) return {};
  PerRow copies;
  for (const BlockTransfer& block : plan.blocks) {
    const std::int32_t tokens = block.needed_end - block.needed_begin;
    copies.pushes += tokens;
    if (block.source != rank) copies.pulls += tokens;
  }
  copies.pushes +=
      static_cast<double>(std::count_if(plan.token_sources.begin(), plan.token_sources.end(),
                                        [&](std::int32_t source) { return source != rank; }));
  const auto rows = static_cast<double>(plan.rows.size());
  return {copies.pulls / rows, copies.pushes / rows};
}

// Memory for all calls of one rank.
class RankMemory {
 public:
  explicit RankMemory(const PlanLimits& limits)
      : limits_(limits),
        plan_(limits),
        order_(limits, plan_capacity(limits).tiles * limits.block_m, kMaxPhases, kMaxPanels),
        ns_per_byte_(1) {}

  // Makes plan and order of a call where other work has left its counts and lists; the faults.
  std::string order_and_check(const Routing& routing, std::int32_t rank, const OrderCall& call) {
    const Plan plan = routing.host_plan(rank);
    const float ns_per_byte = link_rate(plan, call);
    ns_per_byte_.copy_from(&ns_per_byte);
    const bool is_known = call.link_over_products >= 0;
    const PerRow copies = copies_of(plan, rank);
    const OverlapCosts costs{.operations_per_row = kOperationsPerRow,
                             .bytes_per_token = kBytesPerToken,
                             .uniform_pulls_per_row = copies.pulls * call.uniform_over_actual,
                             .uniform_pushes_per_row = copies.pushes * call.uniform_over_actual,
                             .ns_per_byte = is_known ? ns_per_byte_.data() : nullptr};
    const OrderProblem wanted{.order = order_.view(),
                              .choice = call.choice,
                              .costs = costs,
                              .num_panels = call.num_panels,
                              .num_blocks = call.num_blocks};
    const DevicePlanProblem problem = routing.device_problem(rank);
    scribble(call.choice.phases);
    launch_build_plan(problem, plan_.view(), wanted, nullptr);
    if (!wanted.comes_with_plan())
      launch_order_overlap(problem.problem, plan_.view(), wanted, nullptr);
    check_cuda(cudaDeviceSynchronize(), "running the order's kernels");
    return OrderCheck(plan, routing.host_problem(rank), call, order_.view()).faults();
  }

 private:
  static constexpr double kOperationsPerRow = 1e8;
  static constexpr double kBytesPerToken = 4096;

  // Nanoseconds a byte for what the call wants: tokens come in and their partial sums go out, while
  // products run at 5 TFLOP/s a multiprocessor.
  static float link_rate(const Plan& plan, const OrderCall& call) {
    const auto tokens_in = static_cast<double>(plan.tokens_in);
    if (tokens_in == 0) return 1;
    const auto rows = static_cast<double>(plan.num_rows);
    const double products_ns = 1e9 * kOperationsPerRow * rows / (5e12 * call.num_blocks);
    const double link_ns = products_ns * call.link_over_products;
    return static_cast<float>(link_ns / (2 * tokens_in * kBytesPerToken));
  }

  // With what is neither 0 nor -1, which would pass for what a kernel has to write.
  template <typename T>
  static void scribble(T* data, std::int64_t count) {
    check_cuda(cudaMemset(data, 0x5a, static_cast<std::size_t>(count) * sizeof(T)),
               "filling an order");
  }

  // Lengths of lists of several phases stay those of the call before: others would have the kernels
  // write anywhere.
  void scribble(std::int32_t phases) const {
    const OverlapOrderView& order = order_.view();
    if (phases == 1) {
      scribble(order.num_sent, 1);
      scribble(order.num_own, 1);
    }
    const PlanCapacity capacity = plan_capacity(limits_);
    scribble(order.tile_order, capacity.tiles);
    scribble(order.tile_place, capacity.tiles);
    scribble(order.arrivals, capacity.tiles * limits_.block_m);
    scribble(order.sent, kMaxPhases * order.sent_stride);
    scribble(order.own, kMaxPhases * order.own_stride);
    scribble(order.block_needed, capacity.blocks);
    scribble(order.arrived, capacity.tiles);
    scribble(order.first_done, capacity.tiles);
    scribble(order.second_done, capacity.tiles * kMaxPanels);
    scribble(order.pushed, capacity.blocks * kMaxPanels);
    scribble(order.delivered, capacity.blocks * kMaxPanels);
    scribble(order.seen, capacity.home_blocks * kMaxPanels);
    scribble(order.tickets, 1);
    scribble(order.roles, 1);
  }

  PlanLimits limits_;
  DevicePlan plan_;
  OverlapOrder order_;
  DeviceBuffer<float> ns_per_byte_;
};

std::vector<RankMemory> memory_of_ranks(const Routing& routing) {
  std::vector<RankMemory> memory;
  for (std::int32_t r = 0; r < routing.world(); ++r) memory.emplace_back(routing.limits(r));
  return memory;
}

OrderCall draw_call(std::mt19937& random) {
  const auto draw = [&](std::int32_t low, std::int32_t high) {
    return low + static_cast<std::int32_t>(random() % static_cast<unsigned>(high - low + 1));
  };
  OrderCall call;
  call.choice.phases = draw(1, kMaxPhases);
  call.choice.waves = draw(1, 3);
  call.choice.has_waves_if_slow = draw(0, 1) == 0;
  call.choice.is_dedicated = draw(0, 1) == 0;
  call.choice.follows_counts = draw(0, 1) == 0;
  call.uniform_over_actual =
      std::array<double, 3>{0.25, 1, 4}[static_cast<std::size_t>(draw(0, 2))];
  call.num_panels = draw(1, kMaxPanels);
  call.num_blocks = draw(1, 12);
  call.link_over_products =
      std::array<double, 4>{-1, 0, 0.9, 1.1}[static_cast<std::size_t>(draw(0, 3))];
  if (draw(0, 1) == 0) call.choice.n_c_dispatch = draw(1, 14);
  if (draw(0, 1) == 0) call.choice.n_c_combine = draw(1, 14);
  return call;
}

TEST_F(OrderKernels, RandomOrders) {
  std::mt19937 random(20251129);
  for (int problem = 0; problem < 200; ++problem) {
    RoutingShape shape = draw_shape(random);
    shape.groups = 1;
    Routing routing(shape, random);
    std::vector<RankMemory> memory = memory_of_ranks(routing);
    for (int repeat = 0; repeat < 2; ++repeat) {
      const auto draw = static_cast<Draw>(random() % 8 < 6 ? 0 : 1 + random() % 2);
      routing.redraw(random, draw, random() % 8 == 0);
      for (std::int32_t r = 0; r < routing.world(); ++r) {
        const OrderCall call = draw_call(random);
        ASSERT_EQ(memory[r].order_and_check(routing, r, call), "")
            << "problem " << problem << ", call " << repeat << ": " << routing.describe(r)
            << call.describe();
      }
    }
  }
}

// All numbers of phases and waves that are chosen, in the same memory.
void check_phases_and_waves(const RoutingShape& shape, Draw draw, std::int32_t num_blocks) {
  std::mt19937 random(6);
  Routing routing(shape, random);
  std::vector<RankMemory> memory = memory_of_ranks(routing);
  for (const std::int32_t phases : {8, 1, 2, 4}) {
    for (const std::int32_t waves : {1, 2, 3, 64}) {
      routing.redraw(random, draw, waves == 2);
      const std::int32_t rank = (phases + waves) % routing.world();
      const OrderCall call{.choice = {.phases = phases, .waves = waves},
                           .num_panels = kMaxPanels - waves % kMaxPanels,
                           .num_blocks = num_blocks};
      ASSERT_EQ(memory[rank].order_and_check(routing, rank, call), "")
          << routing.describe(rank) << call.describe();
    }
  }
}

TEST_F(OrderKernels, PhasesAndWavesOfManyTiles) {
  for (const RoutingShape& shape :
       {RoutingShape{.topk = 8, .num_experts = 256, .max_tokens = 1500},
        RoutingShape{.ep = 8, .topk = 8, .num_experts = 64, .max_tokens = 1000, .block_m = 128},
        RoutingShape{.tp = 2, .topk = 6, .num_experts = 60, .max_tokens = 1000, .block_m = 128},
        RoutingShape{.ep = 2, .tp = 4, .topk = 2, .num_experts = 8, .max_tokens = 700}}) {
    check_phases_and_waves(shape, Draw::any, 132);
    check_phases_and_waves(shape, Draw::one_expert, 7);
  }
}

TEST_F(OrderKernels, SmallOrders) {
  // Blocks of 64 tokens and halves of them, full, partly used and empty; few tiles and many.
  for (const RoutingShape& shape :
       {RoutingShape{.ep = 2, .tp = 2, .topk = 4, .num_experts = 10, .max_tokens = 100},
        RoutingShape{.topk = 8, .num_experts = 40, .max_tokens = 128, .block_m = 16},
        RoutingShape{.ep = 3, .topk = 1, .num_experts = 5, .max_tokens = 70, .scattered = true}}) {
    check_phases_and_waves(shape, Draw::any, 2);
  }
}

}  // namespace
}  // namespace comet::cuda
