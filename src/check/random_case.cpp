// SPDX-License-Identifier: Apache-2.0
#include "check/random_case.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/int_math.hpp"
#include "base/name_table.hpp"
#include "check/rng.hpp"

namespace comet {
namespace {

constexpr NameTable<WeightForm, 3> kForms{{{WeightForm::fused, "fused"},
                                           {WeightForm::listed, "listed"},
                                           {WeightForm::separate, "separate"}}};
constexpr NameTable<RoutingKind, 9> kRoutings{{{RoutingKind::uniform, "uniform"},
                                               {RoutingKind::skewed, "skewed"},
                                               {RoutingKind::one_expert, "one_expert"},
                                               {RoutingKind::empty_experts, "empty_experts"},
                                               {RoutingKind::some_dropped, "some_dropped"},
                                               {RoutingKind::all_dropped, "all_dropped"},
                                               {RoutingKind::duplicates, "duplicates"},
                                               {RoutingKind::local, "local"},
                                               {RoutingKind::remote, "remote"}}};
constexpr NameTable<TokenPattern, 5> kPatterns{{{TokenPattern::any, "any"},
                                                {TokenPattern::full, "full"},
                                                {TokenPattern::some_empty, "some_empty"},
                                                {TokenPattern::one_rank, "one_rank"},
                                                {TokenPattern::none, "none"}}};
constexpr NameTable<DelayKind, 3> kDelays{{{DelayKind::none, "none"},
                                           {DelayKind::jitter, "jitter"},
                                           {DelayKind::slow_rank, "slow_rank"}}};

// Multiply-adds of one matrix for all rows of a case: keeps a forward call at a few milliseconds.
constexpr std::int64_t kSmallWork = 1'500'000;
constexpr std::int64_t kLargeWork = 10'000'000;  // of one case in 16
constexpr std::int64_t kWeightElements = 400'000;
// The same on cuda, where the oracle takes all the time.
constexpr std::int64_t kDeviceSmallWork = 16'000'000;
constexpr std::int64_t kDeviceLargeWork = 64'000'000;  // of one case in 8
constexpr std::int64_t kDeviceWeightElements = 1'500'000;
constexpr std::int64_t kDeviceMaxTokens = 300;
constexpr std::int64_t kDeviceLongHidden = 4096;  // items so long that blocks take them up by twos
constexpr std::int64_t kMostRanksOfManyTokens = 4;
constexpr std::int64_t kDeviceGroups = 8;  // most that the runs of a case ask for

std::int64_t random_divisor(Rng& rng, std::int64_t value) {
  std::int64_t divisor = rng.between(1, value);
  while (value % divisor != 0) divisor = rng.between(1, value);
  return divisor;
}

// Experts on some of the EP ranks only, in no order.
std::vector<std::int32_t> random_placement(Rng& rng, std::int64_t num_experts, std::int64_t ep) {
  const std::int64_t used = rng.between(1, ep);
  const std::int64_t first = rng.between(0, ep - 1);
  std::vector<std::int32_t> owners(num_experts);
  for (std::int32_t& owner : owners) {
    owner = static_cast<std::int32_t>((first + rng.between(0, used - 1)) % ep);
  }
  return owners;
}

// `ranks`, or if it is 0 as many as the dice say, in two dimensions.
void draw_parallel(Rng& rng, std::int64_t ranks, Case& c) {
  const std::int64_t drawn = rng.pick<std::int64_t>({1, 2, 3, 4, 5, 6, 8});
  const std::int64_t world = ranks > 0 ? ranks : drawn;
  c.parallel.tp = random_divisor(rng, world);
  c.parallel.ep = world / c.parallel.tp;
}

void draw_sizes(Rng& rng, std::int64_t ranks, Case& c) {
  draw_parallel(rng, ranks, c);
  const std::int64_t world = c.world_size();
  MoeDesc& desc = c.desc;
  desc.num_experts = rng.between(1, 20);
  desc.topk = rng.between(1, 8);
  desc.hidden = 8 * rng.between(1, 17);
  const std::int64_t step = 8 * c.parallel.tp;
  const std::int64_t fitting = kWeightElements / (desc.num_experts * desc.hidden * step);
  desc.intermediate =
      step * rng.between(1, std::clamp<std::int64_t>(fitting, 1, max_of(136 / step, 2)));
  const std::int64_t work = rng.one_in(16) ? kLargeWork : kSmallWork;
  const std::int64_t all_rows = work / (desc.hidden * desc.intermediate);
  const std::int64_t most = std::clamp<std::int64_t>(2 * all_rows / (world * desc.topk), 4, 200);
  desc.max_tokens = rng.one_in(64) ? 0 : rng.between(1, most);
  if (rng.one_in(4)) desc.expert_owner = random_placement(rng, desc.num_experts, c.parallel.ep);
}

// More than a megabyte of tokens, which GPUs copy beside the plan, and little work for each.
void draw_many_tokens(Rng& rng, Case& c) {
  MoeDesc& desc = c.desc;
  desc.topk = c.world_size() <= 2 ? rng.between(1, 2) : 1;
  desc.hidden = 8 * rng.between(100, 129);
  desc.intermediate = 8 * c.parallel.tp;
  desc.max_tokens = rng.between(660, 1000);
}

// Several panels of 256 columns in one case, several row tiles of an expert in another.
void draw_device_sizes(Rng& rng, std::int64_t ranks, Case& c) {
  draw_parallel(rng, ranks, c);
  const std::int64_t world = c.world_size();
  MoeDesc& desc = c.desc;
  desc.num_experts = rng.one_in(8) ? rng.between(21, 64) : rng.between(1, 20);
  desc.topk = rng.between(1, 8);
  desc.hidden = 8 * (rng.one_in(2) ? rng.between(1, 129) : rng.between(1, 33));
  if (rng.one_in(8))
    desc.hidden = 8 * rng.between(kDeviceLongHidden / 8, kDeviceLongHidden / 8 + 8);
  const std::int64_t step = 8 * c.parallel.tp;
  const std::int64_t fitting = kDeviceWeightElements / (desc.num_experts * desc.hidden * step);
  desc.intermediate =
      step * rng.between(1, std::clamp<std::int64_t>(fitting, 1, max_of(1032 / step, 2)));
  const std::int64_t work = rng.one_in(8) ? kDeviceLargeWork : kDeviceSmallWork;
  const std::int64_t all_rows = work / (desc.hidden * desc.intermediate);
  const std::int64_t most =
      std::clamp<std::int64_t>(2 * all_rows / (world * desc.topk), 4, kDeviceMaxTokens);
  desc.max_tokens = rng.one_in(64) ? 0 : rng.between(1, most);
  if (world <= kMostRanksOfManyTokens && rng.one_in(16)) draw_many_tokens(rng, c);
  if (rng.one_in(4)) desc.expert_owner = random_placement(rng, desc.num_experts, c.parallel.ep);
}

void draw_function(Rng& rng, Case& c) {
  MoeDesc& desc = c.desc;
  desc.dtype = c.backend == Backend::cuda ? rng.pick({DType::bf16, DType::f16})
                                          : rng.pick({DType::f32, DType::bf16});
  desc.activation = rng.pick({Activation::silu, Activation::gelu, Activation::relu});
  desc.gated = !rng.one_in(3);
  desc.weight_position = rng.pick({WeightPosition::after_down, WeightPosition::before_down});
  c.form = rng.pick({WeightForm::fused, WeightForm::listed, WeightForm::separate});
  c.gate_layout = rng.pick({GateLayout::gate_up, GateLayout::up_gate, GateLayout::interleaved});
  if (!desc.gated) c.gate_layout = GateLayout::none;
  c.id_type = rng.pick({IdType::i32, IdType::i64});
  c.row_padding = rng.pick<std::int64_t>({0, 0, 8, 5});
  c.weight_type = rng.pick({DType::f32, DType::f32, DType::bf16, DType::f16});
}

void draw_execution(Rng& rng, Case& c) {
  LayerOptions options;
  options.block_m = rng.pick<std::int64_t>({16, 32, 64});
  options.block_n = 8 * rng.between(2, 8);
  c.options.assign(c.world_size(), options);
  const bool single = rng.one_in(8);  // one worker per rank: the protocol's hardest case
  for (LayerOptions& rank : c.options) {
    rank.num_workers = single ? 1 : static_cast<int>(rng.between(1, 4));
  }
  c.forward.groups = rng.between(1, 4);
  c.forward.panel = std::min(rng.pick<std::int64_t>({0, 1, 16, 40, 64, 1000}), c.desc.hidden);
  c.forward.chunk = rng.pick<std::int64_t>({0, 1, 3, 16, 1000});
  if (rng.one_in(4)) {
    c.link.kind = LinkSpec::Kind::paced;
    c.link.gigabytes_per_second = static_cast<double>(rng.between(2, 20));
  }
  c.delays = rng.pick({DelayKind::none, DelayKind::none, DelayKind::jitter, DelayKind::slow_rank});
}

// Room for the rows of any call of the case, the tails of all groups counted.
std::int64_t enough_rows(const Case& c) {
  const std::int64_t tails = kDeviceGroups * c.desc.num_experts * c.options[0].block_m;
  return c.world_size() * c.desc.max_tokens * c.desc.topk + tails;
}

void draw_device_execution(Rng& rng, Case& c) {
  LayerOptions options;
  options.block_m = rng.pick<std::int64_t>({0, 64, 128});
  options.block_n = rng.pick<std::int64_t>({0, 256});
  options.max_groups = rng.pick<std::int64_t>({kDeviceGroups, kDeviceGroups, 64});
  c.options.assign(c.world_size(), options);
  if (options.block_m > 0 && rng.one_in(3)) {
    const std::int64_t rows = enough_rows(c);
    for (LayerOptions& rank : c.options) rank.max_rows = rows;
  }
  c.forward.groups = rng.between(1, kDeviceGroups);
  c.forward.panel = std::min(rng.pick<std::int64_t>({0, 1, 256, 300, 512, 1000}), c.desc.hidden);
  c.forward.chunk = rng.pick<std::int64_t>({0, 1, 3, 16, 1000});
  if (rng.one_in(8)) {
    c.link.kind = LinkSpec::Kind::host;
  } else if (rng.one_in(4)) {
    c.link.kind = LinkSpec::Kind::paced;
    c.link.gigabytes_per_second = static_cast<double>(rng.between(2, 20));
  }
  c.delays = rng.pick({DelayKind::none, DelayKind::none, DelayKind::jitter, DelayKind::slow_rank});
}

}  // namespace

std::string_view to_string(WeightForm form) noexcept { return name_of(kForms, form); }
std::string_view to_string(RoutingKind kind) noexcept { return name_of(kRoutings, kind); }
std::string_view to_string(TokenPattern pattern) noexcept { return name_of(kPatterns, pattern); }
std::string_view to_string(DelayKind kind) noexcept { return name_of(kDelays, kind); }

Case random_case(std::uint64_t seed, std::uint64_t index, Backend backend, std::int64_t ranks) {
  Rng rng(seed, index);
  Case c;
  c.seed = seed;
  c.index = index;
  c.backend = backend;
  if (backend == Backend::cuda) {
    draw_device_sizes(rng, ranks, c);
    draw_function(rng, c);
    draw_device_execution(rng, c);
  } else {
    draw_sizes(rng, ranks, c);
    draw_function(rng, c);
    draw_execution(rng, c);
  }
  c.pattern = rng.pick({TokenPattern::any, TokenPattern::any, TokenPattern::any, TokenPattern::full,
                        TokenPattern::some_empty, TokenPattern::one_rank});
  if (rng.one_in(64)) c.pattern = TokenPattern::none;
  c.routing =
      rng.one_in(3)
          ? RoutingKind::uniform
          : kRoutings[rng.between(0, static_cast<std::int64_t>(kRoutings.size()) - 1)].first;
  return c;
}

Case plain_case(std::int64_t world_size, std::uint64_t seed, Backend backend) {
  Case c;
  c.seed = seed;
  c.backend = backend;
  c.desc = {.num_experts = 6, .topk = 2, .hidden = 32, .intermediate = 48, .max_tokens = 21};
  c.options.resize(1);
  c.options[0].block_m = 16;
  c.options[0].block_n = 16;
  if (backend == Backend::cuda) {
    c.desc.dtype = DType::bf16;
    c.options[0].block_m = 64;
    c.options[0].block_n = 256;
  }
  set_parallel(c, {.ep = world_size, .tp = 1});
  return c;
}

void set_parallel(Case& c, const ParallelDesc& parallel) {
  c.parallel = parallel;
  c.desc.intermediate = round_up(c.desc.intermediate, 8 * parallel.tp);
  const LayerOptions first = c.options.at(0);
  c.options.assign(parallel.world_size(), first);
}

std::string describe(const Case& c) {
  const MoeDesc& d = c.desc;
  std::vector<int> workers;
  for (const LayerOptions& options : c.options) workers.push_back(options.num_workers);
  std::string text = fmt::format(
      "seed {} index {}: W={} (ep {} x tp {}) E={} K={} H={} I={} T<={} {} {}{} {} weights={}/{} "
      "ids={} routed={} padding={} block={}x{} workers=[{}] groups={} panel={} chunk={} tokens={} "
      "routing={} link={} delays={}",
      c.seed, c.index, c.world_size(), c.parallel.ep, c.parallel.tp, d.num_experts, d.topk,
      d.hidden, d.intermediate, d.max_tokens, to_string(d.dtype), to_string(d.activation),
      d.gated ? " gated" : "", to_string(d.weight_position), to_string(c.form),
      to_string(c.gate_layout), c.id_type == IdType::i32 ? "i32" : "i64", to_string(c.weight_type),
      c.row_padding, c.options.at(0).block_m, c.options.at(0).block_n, fmt::join(workers, ","),
      c.forward.groups, c.forward.panel, c.forward.chunk, to_string(c.pattern),
      to_string(c.routing), to_string(c.link), to_string(c.delays));
  if (c.backend != Backend::cpu) {
    text += fmt::format(" backend={} max_groups={} max_rows={}", to_string(c.backend),
                        c.options.at(0).max_groups, c.options.at(0).max_rows);
  }
  if (!d.expert_owner.empty()) text += fmt::format(" owner=[{}]", fmt::join(d.expert_owner, ","));
  return text;
}

}  // namespace comet
