// SPDX-License-Identifier: Apache-2.0
// BenchRank: one rank's part of a benchmark case. All ranks take the same steps, because what they
// decide by is gathered from all of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "comet/layer.hpp"
#include "layer/device_calls.hpp"
#include "measure/bench_calls.hpp"
#include "measure/bench_case.hpp"
#include "measure/bench_data.hpp"
#include "measure/bench_inputs.hpp"
#include "measure/figures.hpp"
#include "measure/oracle_check.hpp"
#include "measure/tune_candidates.hpp"

namespace comet {

/// Choices of a schedule that are compared at the end of its tuning, at least.
inline constexpr std::size_t kFinalists = 2;

/// What the ranks share. Ranks write apart, or rank 0 alone, and meet before others read. Where
/// ranks are processes, each has its own.
struct BenchShared {
  const BenchCase& bench;
  std::optional<BenchData> data;  ///< Before the first BenchRank.
  const ProgressSink& progress;
  std::int64_t block_m = 0;
  std::int64_t block_n = 0;
  std::int64_t panel = 0;                        ///< Of comet.
  std::int64_t panel_n = 0;                      ///< Columns of a tile of the second GEMM.
  int workers = 0;                               ///< Threads of a rank.
  std::int64_t steps_planned = 1;                ///< For progress.
  std::vector<std::vector<std::byte>> expected;  ///< [W] y of the first sequential call.
  /// [contender][W] each rank's part of the median call, if the case asks for it.
  std::vector<std::vector<RecordedCall>> recorded;
  std::vector<BenchRow> rows;  ///< From rank 0.
};

class BenchRank {
 public:
  BenchRank(BenchShared& shared, World& world);

  /// Runs the case; rank 0 leaves the rows. Collective.
  void run();

 private:
  /// One call's times, maxima over ranks, in microseconds.
  struct CallTimes {
    double layer_us = 0;
    double plan_us = 0;
    double publish_us = 0;
    double dispatch_us = 0;
    double combine_us = 0;
  };
  /// A schedule with its options and its rounds.
  struct Contender {
    Schedule schedule = Schedule::sequential;
    ForwardOptions options = {};
    std::vector<double> layer_us = {}, plan_us = {}, publish_us = {};
    std::vector<double> dispatch_us = {}, combine_us = {};
    std::vector<RecordedCall> calls = {};  // this rank's part of the first rounds
  };

  void establish_truth();
  void check_truth();
  void set_up_link(const ForwardOptions& sequential);
  std::vector<std::int64_t> groups_to_try() const;
  TuneSpace tune_space(Schedule schedule, std::int64_t sequential_panel) const;
  bool has_choices(Schedule schedule) const;
  std::vector<ForwardOptions> tune(const std::vector<ForwardOptions>& candidates,
                                   std::size_t places);
  std::vector<ForwardOptions> candidates_of(Schedule schedule, std::int64_t sequential_panel) const;
  void measure_call(Contender& contender, std::size_t copy, bool record);
  void run_rounds(std::vector<Contender>& contenders);
  void hand_over(std::vector<Contender>& contenders);
  std::vector<std::size_t> places_of(Schedule schedule,
                                     const std::vector<Contender>& contenders) const;
  BenchRow make_row(const Contender& contender, const Contender& sequential) const;
  CallTimes timed_call(const ForwardOptions& options);
  CallTimes timed_call(ForwardOptions options, std::size_t copy, RecordedCall* recorded);
  int num_devices();
  void step_done(const char* phase);
  bool is_over(std::int64_t begun_ns, double seconds) const;

  BenchShared& shared_;
  const BenchCase& bench_;
  World& world_;
  const int rank_;
  const RankDeviceInfo device_;
  const int workers_;  // or multiprocessors
  const BenchData& data_;
  BenchInputs inputs_;
  std::unique_ptr<MoeLayer> layer_;
  BenchCalls calls_;  // before the layer goes, its graphs go
  int num_devices_ = 0;
  LinkBytes bytes_;
  LinkSpec link_;
  double rough_compute_us_ = 0;     // before the rounds, for the link and the choice of groups
  std::vector<double> compute_us_;  // one per round
  std::int64_t checked_tokens_ = 0;
  std::int64_t steps_done_ = 0;
  std::int64_t started_ns_ = 0;
};

}  // namespace comet
