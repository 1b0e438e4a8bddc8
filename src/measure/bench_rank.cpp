// SPDX-License-Identifier: Apache-2.0
#include "measure/bench_rank.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <utility>

#include "base/check.hpp"
#include "base/int_math.hpp"
#include "base/trace_span.hpp"
#include "measure/calibrate.hpp"
#include "measure/clock_offsets.hpp"
#include "measure/halving.hpp"
#include "measure/recorded_calls.hpp"
#include "measure/round_plan.hpp"
#include "tune/group_model.hpp"

namespace comet {
namespace {

constexpr int kReplays = 5;  // for the rough t_compute
constexpr std::size_t kGroupsToTry = 3;
constexpr std::size_t kFewestRounds = 3;
constexpr std::size_t kMostRecorded = 9;  // rounds whose events are kept until the median is known
constexpr std::int64_t kGroupCounts[] = {1, 2, 3, 4, 6, 8};
constexpr int kFewestWarmupsOnCuda = 3;

// For which memory is reserved where that has to be known.
std::int64_t most_groups(const BenchCase& bench) {
  const std::int64_t degree =
      *std::max_element(bench.chunk_degrees.begin(), bench.chunk_degrees.end());
  std::int64_t most = std::max({std::int64_t{8}, degree, bench.groups});
  for (const ForwardOptions& given : bench.comet_options) most = std::max(most, given.groups);
  return most;
}

}  // namespace

BenchRank::BenchRank(BenchShared& shared, World& world)
    : shared_(shared),
      bench_(shared.bench),
      world_(world),
      rank_(world.rank()),
      device_(describe_device(world)),
      workers_(device_.device < 0 ? shared.workers : device_.multiprocessors),
      data_(*shared.data),
      inputs_(data_, world, device_.l2_bytes),
      layer_(MoeLayer::create(data_.desc(), shared.bench.parallel, inputs_.weights(), world,
                              {.block_m = shared.block_m,
                               .block_n = shared.block_n,
                               .num_workers = shared.workers,
                               .max_groups = most_groups(shared.bench)})),
      calls_(world, *layer_, inputs_, shared.bench.graphs),
      num_devices_(num_devices()),
      link_(world.link()),
      started_ns_(trace_now_ns()) {}

void BenchRank::run() {
  establish_truth();
  if (bench_.check) check_truth();
  std::vector<Contender> contenders;
  contenders.push_back({.schedule = Schedule::sequential});  // the yardstick, shown or not
  const ForwardOptions sequential = tune(candidates_of(Schedule::sequential, 0), 1).front();
  contenders.front().options = sequential;
  set_up_link(sequential);
  for (const Schedule schedule : bench_.schedules) {
    if (schedule == Schedule::sequential) continue;
    const std::size_t places = has_choices(schedule) ? bench_.finalists : 1;
    for (const ForwardOptions& options : tune(candidates_of(schedule, sequential.panel), places)) {
      contenders.push_back({.schedule = schedule, .options = options});
    }
  }
  run_rounds(contenders);
  if (bench_.record) hand_over(contenders);
  if (rank_ != 0) return;
  for (const Schedule schedule : bench_.schedules) {
    for (const std::size_t place : places_of(schedule, contenders)) {
      BenchRow& row = shared_.rows.emplace_back(make_row(contenders[place], contenders.front()));
      if (bench_.record) row.recorded = join_parts(shared_.recorded[place]);
    }
  }
}

// Whether the case says what the schedule tries.
bool BenchRank::has_choices(Schedule schedule) const {
  return schedule == Schedule::comet && !bench_.comet_options.empty();
}

// A schedule's contenders, fastest first.
std::vector<std::size_t> BenchRank::places_of(Schedule schedule,
                                              const std::vector<Contender>& contenders) const {
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < contenders.size(); ++i) {
    if (contenders[i].schedule == schedule) places.push_back(i);
  }
  std::stable_sort(places.begin(), places.end(), [&](std::size_t a, std::size_t b) {
    return median(contenders[a].layer_us) < median(contenders[b].layer_us);
  });
  return places;
}

// The first sequential call: what all later calls must equal bit for bit, and the bytes.
void BenchRank::establish_truth() {
  step_done("first call");
  const ForwardOptions options{.schedule = Schedule::sequential, .panel = shared_.panel};
  const CallStats stats = calls_.make_plain(options);
  const std::span<const std::byte> y = calls_.y();
  shared_.expected[rank_].assign(y.begin(), y.end());
  bytes_ = gather_link_bytes(world_, stats);
}

void BenchRank::check_truth() {
  step_done("checking against the oracle");
  const TokenSample sample = choose_sample(data_, world_.size(), bench_.check_seconds);
  checked_tokens_ = static_cast<std::int64_t>(sample.entries.size());
  // Rank 0 sees what all threads have; a process sees its own.
  const bool is_alone = !is_one_process(world_);
  if (rank_ == 0 || is_alone) {
    std::vector<const std::byte*> y;
    for (const auto& of_rank : shared_.expected) y.push_back(of_rank.data());
    check_with_oracle(data_,
                      {.tp = bench_.parallel.tp, .rounds_rows = bench_.backend == Backend::cuda},
                      is_alone ? part_of(sample, rank_) : sample, y);
  }
  world_.barrier();
}

void BenchRank::set_up_link(const ForwardOptions& sequential) {
  timed_call(sequential);
  if (device_.device >= 0) calls_.make_plain(sequential);
  rough_compute_us_ = measure_compute(*layer_, kReplays);
  if (bench_.link.kind != LinkSpec::Kind::paced || bench_.link.gigabytes_per_second > 0) return;
  link_ = calibrate_link(world_, bytes_, rough_compute_us_, bench_.link.auto_ratio);
}

std::vector<std::int64_t> BenchRank::groups_to_try() const {
  if (bench_.groups > 0) return {bench_.groups};
  // There groups are of tiles and cost no padding; all are tried.
  if (bench_.backend == Backend::cuda) return {1, 2, 4, 8};
  const MoeDesc& desc = data_.desc();
  const auto slots = static_cast<double>(data_.padded_rows(shared_.block_m, 1));
  std::vector<GroupCandidate> candidates;
  for (const std::int64_t groups : kGroupCounts) {
    const auto padded = static_cast<double>(data_.padded_rows(shared_.block_m, groups));
    candidates.push_back(
        {.groups = groups,
         .tiles_per_expert = padded / static_cast<double>(shared_.block_m * groups *
                                                          desc.num_experts * bench_.parallel.tp),
         .padding = slots > 0 ? padded / slots : 1.0});
  }
  const StagePair link = link_.gigabytes_per_second > 0
                             ? paced_link_time(bytes_, link_.gigabytes_per_second)
                             : StagePair{};
  std::vector<std::int64_t> ranked =
      rank_groups({.compute = split_compute(rough_compute_us_, desc.gated),
                   .link = link,
                   .world = world_.size(),
                   .panels = {desc.hidden, shared_.panel, shared_.panel_n}},
                  candidates);
  ranked.resize(std::min(ranked.size(), kGroupsToTry));
  return ranked;
}

// pipelined gates by whole groups, as sequential does, so the panel that suits the one suits both.
TuneSpace BenchRank::tune_space(Schedule schedule, std::int64_t sequential_panel) const {
  TuneSpace space{.num_workers = workers_, .panels = {shared_.panel}, .groups = {1}};
  if (schedule == Schedule::comet) space.groups = groups_to_try();
  if (schedule == Schedule::pipelined) space.panels = {sequential_panel};
  const std::int64_t hidden = data_.desc().hidden;
  if (schedule == Schedule::sequential && bench_.panel == 0 && shared_.panel < hidden) {
    space.panels.push_back(hidden);
  }
  if (schedule == Schedule::comet && bench_.panel == 0 && bench_.backend == Backend::cuda) {
    space.panels.push_back(2 * shared_.panel);
  }
  return space;
}

std::vector<ForwardOptions> BenchRank::candidates_of(Schedule schedule,
                                                     std::int64_t sequential_panel) const {
  if (has_choices(schedule)) {
    std::vector<ForwardOptions> given = bench_.comet_options;
    for (ForwardOptions& options : given) {
      if (options.panel == 0) options.panel = shared_.panel;
    }
    return given;
  }
  return tune_candidates(bench_, schedule, tune_space(schedule, sequential_panel));
}

// The best `places` of the candidates, best first; where all have a place, as they are.
std::vector<ForwardOptions> BenchRank::tune(const std::vector<ForwardOptions>& candidates,
                                            std::size_t places) {
  constexpr double kPartOfTime = 0.5;
  const int warmup =
      device_.device < 0 ? bench_.warmup : std::max(bench_.warmup, kFewestWarmupsOnCuda);
  for (int i = 0; i < warmup; ++i) timed_call(candidates.front());
  if (candidates.size() <= places) return candidates;
  const std::int64_t begun_ns = trace_now_ns();
  std::size_t num_tried = 0;
  const auto trial = [&](std::size_t i) -> std::optional<double> {
    const bool may_stop = !bench_.comet_options.empty() && num_tried++ >= kFinalists;
    if (may_stop && is_over(begun_ns, kPartOfTime * bench_.soft_limit_seconds)) return std::nullopt;
    step_done("tuning");
    return timed_call(candidates[i]).layer_us;
  };
  std::vector<ForwardOptions> best;
  const std::size_t keep = std::max(places, kFinalists);
  for (const std::size_t i : successive_halving(candidates.size(), keep, trial)) {
    if (best.size() < places) best.push_back(candidates[i]);
  }
  return best;
}

// One call, and sequential's computation alone beside its own.
void BenchRank::measure_call(Contender& contender, std::size_t copy, bool record) {
  const CallTimes times =
      timed_call(contender.options, copy, record ? &contender.calls.emplace_back() : nullptr);
  contender.layer_us.push_back(times.layer_us);
  contender.plan_us.push_back(times.plan_us);
  contender.publish_us.push_back(times.publish_us);
  contender.dispatch_us.push_back(times.dispatch_us);
  contender.combine_us.push_back(times.combine_us);
  if (contender.schedule == Schedule::sequential) {
    if (device_.device >= 0) calls_.make_plain(contender.options);
    compute_us_.push_back(layer_->replay_compute());
  }
  step_done("timing");
}

void BenchRank::run_rounds(std::vector<Contender>& contenders) {
  const std::vector<RoundCall> planned =
      plan_rounds(contenders.size(), static_cast<std::size_t>(bench_.rounds), inputs_.num_copies());
  // A graph's first replay may be slower than those after it; each copy has its own.
  if (device_.device >= 0) {
    for (const RoundCall& call : first_calls(planned)) {
      timed_call(contenders[call.contender].options, call.copy, nullptr);
    }
  }
  for (std::size_t i = 0; i < planned.size(); ++i) {
    const bool may_end = i % contenders.size() == 0 && i >= kFewestRounds * contenders.size();
    if (may_end && is_over(started_ns_, bench_.soft_limit_seconds)) return;
    Contender& contender = contenders[planned[i].contender];
    measure_call(contender, planned[i].copy,
                 bench_.record && contender.calls.size() < kMostRecorded);
  }
}

// Of the recorded rounds the one whose time is nearest to the median of all, which all ranks agree
// on.
void BenchRank::hand_over(std::vector<Contender>& contenders) {
  // A host has one clock, whatever its processes and GPUs.
  std::vector<std::int64_t> clocks(static_cast<std::size_t>(world_.size()));
  if (world_.num_hosts() > 1) clocks = measure_clock_offsets(world_, trace_now_ns);
  for (std::size_t i = 0; i < contenders.size(); ++i) {
    Contender& contender = contenders[i];
    const double middle = median(contender.layer_us);
    const auto times = std::span(contender.layer_us).first(contender.calls.size());
    const auto nearest = std::min_element(times.begin(), times.end(), [&](double a, double b) {
      return std::abs(a - middle) < std::abs(b - middle);
    });
    shared_.recorded[i][static_cast<std::size_t>(rank_)] =
        std::move(contender.calls[static_cast<std::size_t>(nearest - times.begin())]);
    if (!is_one_process(world_)) share_recorded(world_, shared_.recorded[i], clocks);
  }
  world_.barrier();
}

BenchRank::CallTimes BenchRank::timed_call(const ForwardOptions& options) {
  return timed_call(options, calls_.next_copy(), nullptr);
}

BenchRank::CallTimes BenchRank::timed_call(ForwardOptions options, std::size_t copy,
                                           RecordedCall* recorded) {
  if (recorded != nullptr) options.trace = &recorded->events;
  calls_.prepare(options, copy);
  world_.barrier();
  const std::int64_t begin_ns = trace_now_ns();
  const CallStats stats = calls_.make(options);
  if (recorded != nullptr) {
    recorded->begin_ns = begin_ns;
    recorded->end_ns = trace_now_ns();
    if (device_.device >= 0) limit_to_events(*recorded);
  }
  struct Report {
    CallTimes times;
    bool equal = true;
  };
  const std::span<const std::byte> y = calls_.y();
  const std::vector<std::byte>& expected = shared_.expected[rank_];
  const bool is_equal = y.size() == expected.size() &&
                        (y.empty() || std::memcmp(y.data(), expected.data(), y.size()) == 0);
  const Report mine{{stats.t_layer_us, stats.t_plan_us, stats.t_publish_us, stats.t_dispatch_us,
                     stats.t_combine_us},
                    options.schedule == Schedule::reference || is_equal};
  std::vector<Report> all(world_.size());
  world_.all_gather(&mine, all.data(), sizeof(Report));
  CallTimes times;
  for (int rank = 0; rank < world_.size(); ++rank) {
    check(all[rank].equal, ErrorCode::internal,
          "[bench] rank {}: {} with {} groups gives other bits than sequential", rank,
          to_string(options.schedule), options.groups);
    times.layer_us = std::max(times.layer_us, all[rank].times.layer_us);
    times.plan_us = std::max(times.plan_us, all[rank].times.plan_us);
    times.publish_us = std::max(times.publish_us, all[rank].times.publish_us);
    times.dispatch_us = std::max(times.dispatch_us, all[rank].times.dispatch_us);
    times.combine_us = std::max(times.combine_us, all[rank].times.combine_us);
  }
  return times;
}

BenchRow BenchRank::make_row(const Contender& contender, const Contender& sequential) const {
  BenchRow row;
  row.world = world_.kind();
  row.schedule = contender.schedule;
  row.options = contender.options;
  if (contender.schedule == Schedule::comet) row.groups = contender.options.groups;
  if (contender.schedule == Schedule::pipelined) row.chunks = contender.options.groups;
  row.n_c_dispatch = contender.options.n_c_dispatch;
  row.n_c_combine = contender.options.n_c_combine;
  row.placement = contender.options.placement;
  row.waves = contender.options.waves;
  row.block_m = shared_.block_m;
  row.block_n = shared_.block_n;
  row.panel = contender.options.panel;
  row.workers = workers_;
  row.device = device_.name;
  row.num_devices = num_devices_;
  row.is_graph = device_.device >= 0 && bench_.graphs;
  row.input_copies = static_cast<int>(inputs_.num_copies());
  row.rounds = static_cast<int>(contender.layer_us.size());
  row.t_layer_us = median(contender.layer_us);
  row.t_layer_spread_us = spread(contender.layer_us);
  row.t_layer_best_us = *std::min_element(contender.layer_us.begin(), contender.layer_us.end());
  row.t_compute_us = median(compute_us_);
  row.t_plan_us = median(contender.plan_us);
  row.t_publish_us = median(contender.publish_us);
  if (world_.backend() == Backend::cuda && contender.schedule == Schedule::sequential) {
    row.t_dispatch_us = median(contender.dispatch_us);
    row.t_combine_us = median(contender.combine_us);
  }
  row.efficiency = efficiency(row.t_layer_us, row.t_compute_us, 0);
  if (link_.gigabytes_per_second > 0) {
    const StagePair link = paced_link_time(bytes_, link_.gigabytes_per_second);
    row.t_link_us = link.sum();
    row.t_stage_bound_us = stage_bound(split_compute(row.t_compute_us, data_.desc().gated), link);
    row.efficiency = efficiency(row.t_layer_us, row.t_compute_us, link.sum());
    if (link.sum() > 0) {
      row.hidden_share = hidden_share(row.t_layer_us, row.t_compute_us, link.sum());
    }
  }
  row.speedup_vs_sequential = median(sequential.layer_us) / row.t_layer_us;
  row.bytes_link = bytes_.total;
  row.num_hosts = world_.num_hosts();
  row.host_bytes_planned = bytes_.hosts_planned;
  row.host_bytes_sent = bytes_.hosts_sent;
  row.workspace_bytes = layer_->workspace_bytes();
  row.link = link_;
  row.checked_tokens = checked_tokens_;
  row.total_tokens = bench_.tokens;
  return row;
}

int BenchRank::num_devices() {
  if (device_.device < 0) return 0;
  std::vector<int> devices(static_cast<std::size_t>(world_.size()));
  world_.all_gather(&device_.device, devices.data(), sizeof(int));
  std::sort(devices.begin(), devices.end());
  return static_cast<int>(std::unique(devices.begin(), devices.end()) - devices.begin());
}

void BenchRank::step_done(const char* phase) {
  if (rank_ != 0 || !shared_.progress) return;
  ++steps_done_;
  shared_.progress({phase, std::min(1.0, static_cast<double>(steps_done_) /
                                             static_cast<double>(shared_.steps_planned))});
}

// By rank 0's clock, so that all ranks stop together.
bool BenchRank::is_over(std::int64_t begun_ns, double seconds) const {
  if (seconds <= 0) return false;
  const std::int64_t elapsed = trace_now_ns() - begun_ns;
  std::vector<std::int64_t> all(world_.size());
  world_.all_gather(&elapsed, all.data(), sizeof(elapsed));
  return static_cast<double>(all[0]) * 1e-9 > seconds;
}

}  // namespace comet
