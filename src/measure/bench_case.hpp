// SPDX-License-Identifier: Apache-2.0
// BenchCase: what is to be measured. BenchRow: what came out, one per schedule.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comet/desc.hpp"
#include "comet/layer.hpp"
#include "comet/router.hpp"
#include "comet/world.hpp"
#include "layer/world_runner.hpp"

namespace comet {

class BenchWeights;

/// One layer on one world, to be run by several schedules.
struct BenchCase {
  std::string suite = "bench";  ///< What the row belongs to, for readers of many rows.
  std::string model = "custom";
  MoeDesc desc;  ///< max_tokens is set from `tokens`; expert_owner must be empty.
  ParallelDesc parallel;
  std::int64_t tokens = 0;  ///< Total over ranks, spread as evenly as whole tokens allow.
  SyntheticRouting routing;
  std::string routing_text = "uniform";
  LinkSpec link;
  Backend backend = Backend::cpu;
  /// cuda: replay calls from graphs, so that no schedule pays for its launches.
  bool graphs = true;
  std::vector<Schedule> schedules = {Schedule::sequential, Schedule::pipelined, Schedule::comet};
  std::int64_t groups = 0;  ///< Of comet; 0 chooses.
  int n_c_dispatch = -1;    ///< Of comet and pipelined; -1 chooses.
  int n_c_combine = -1;     ///< See n_c_dispatch; pipelined reserves n_c_dispatch for both stages.
  std::optional<Placement> placement = {};                 ///< cuda: of comet; none tries both.
  std::int64_t waves = 0;                                  ///< cuda: of comet; 0 chooses.
  std::vector<std::int64_t> chunk_degrees = {1, 2, 4, 8};  ///< Of pipelined; the best is shown.
  int rounds = 5;
  int warmup = 1;   ///< Calls per schedule before the rounds; cuda: at least 3.
  int workers = 0;  ///< cpu: threads per rank; 0 chooses.
  std::uint64_t seed = 1;
  /// Of this desc and seed, drawn before; null: the case draws its own. See BenchWeightsCache.
  std::shared_ptr<const BenchWeights> weights = {};
  std::int64_t block_m = 0;  ///< Tile; 0 chooses as the layer does.
  std::int64_t block_n = 0;  ///< See block_m.
  std::int64_t panel = 0;    ///< Columns; 0 chooses.
  std::int64_t chunk = 0;    ///< Most tokens of a transfer; 0 chooses.
  bool check = true;         ///< Compare with the oracle and the schedules with each other.
  double check_seconds = 1;  ///< About how long the oracle may take; fewer tokens if too many.
  /// Rounds beyond the third are left out once the case has taken so long; 0 is no limit.
  double soft_limit_seconds = 0;
  /// What comet tries, in place of the benchmark's own candidates; panel 0 is that of the case.
  /// Soft limit: trials end after half of it.
  std::vector<ForwardOptions> comet_options = {};
  /// So many of comet_options, the best, are timed in all rounds. If that is all, none is tried
  /// before.
  std::size_t finalists = 2;
  bool record = false;  ///< Keep the events of each schedule's median round; cpu only.
};

/// A timed call as the workers of all ranks recorded it. Events of all are by rank 0's clock: of
/// ranks on other hosts exact to the time that a message between hosts takes, of those on GPUs to
/// some microseconds.
struct RecordedCall {
  std::int64_t begin_ns = 0;  ///< When the first rank entered it, by the clock of traces.
  std::int64_t end_ns = 0;    ///< When the last rank left it.
  Trace events = {};
};

/// One schedule's figures. Times in microseconds, medians over rounds of the maximum over ranks.
/// docs/benchmarks.md explains each.
struct BenchRow {
  std::string world = "local";  ///< World::kind().
  Schedule schedule = Schedule::sequential;
  std::int64_t groups = 1;  ///< 1 but for comet.
  std::int64_t chunks = 1;  ///< 1 but for pipelined.
  int n_c_dispatch = 0;
  int n_c_combine = 0;
  Placement placement = Placement::warps;  ///< Of comet on cuda.
  std::int64_t waves = 0;                  ///< Of comet on cuda; 0: left to the layer.
  std::int64_t block_m = 0;
  std::int64_t block_n = 0;
  std::int64_t panel = 0;
  int workers = 0;        ///< Threads of a rank; on cuda its multiprocessors.
  std::string device;     ///< The GPU's name; empty on cpu.
  int num_devices = 0;    ///< GPUs that the ranks share; 0 on cpu.
  bool is_graph = false;  ///< Timed calls were replayed from graphs.
  int input_copies = 1;   ///< Of x, ids, weights and y, rotated from call to call.
  int rounds = 0;
  double t_layer_us = 0;
  double t_layer_spread_us = 0;  ///< Largest minus smallest round.
  double t_layer_best_us = 0;    ///< Smallest round.
  double t_compute_us = 0;
  double t_plan_us = 0;
  double t_publish_us = 0;
  std::optional<double> t_dispatch_us;  ///< See CallStats; sequential on cuda only.
  std::optional<double> t_combine_us;   ///< See t_dispatch_us.
  std::optional<double> t_link_us;      ///< Known on paced links only.
  std::optional<double> t_stage_bound_us;
  std::optional<double> hidden_share;
  double efficiency = 0;  ///< Without a known t_link, t_compute / t_layer.
  double speedup_vs_sequential = 1;
  std::int64_t bytes_link = 0;  ///< Payload of both stages over all links, one call.
  int num_hosts = 1;            ///< See World.
  /// Between hosts in the first call, metadata included, see CallStats; 0 on one host.
  std::int64_t host_bytes_planned = 0;
  std::int64_t host_bytes_sent = 0;  ///< See host_bytes_planned.
  std::int64_t workspace_bytes = 0;
  LinkSpec link;                    ///< With the rate that auto found.
  std::int64_t checked_tokens = 0;  ///< Compared with the oracle; 0 if not checked.
  std::int64_t total_tokens = 0;
  std::optional<RecordedCall> recorded;  ///< If BenchCase::record asks for it.
  ForwardOptions options;                ///< What was chosen.
};

/// Where a running case stands.
struct BenchProgress {
  std::string phase;    ///< For people, for example "tuning comet".
  double fraction = 0;  ///< Of the calls that the case will make, 0 to 1.
};

/// Threads of a rank that a benchmark takes where none are asked for: all processors, in equal
/// parts.
int default_workers(std::int64_t world);

using ProgressSink = std::function<void(const BenchProgress&)>;

/// Runs the case on the world that `world` makes or has: checks results, finds the rate of an auto
/// link, tunes comet and pipelined alike, then times all schedules in interleaved rounds. One row
/// per entry of `schedules`, in its order; of comet with `comet_options` one for each finalist,
/// fastest first. `progress` may be null; it is called by one thread.
/// Throws Error on a case that a layer refuses, and Error(internal) if a schedule's result is
/// wrong. Where ranks are processes all make the call, each with its own rank's weights and tokens
/// in its memory, one expert more while it checks, and rank 0 alone gets the rows and calls
/// `progress`.
std::vector<BenchRow> run_bench(const BenchCase& bench, const ProgressSink& progress = {},
                                const WorldRunner& world = run_local_world);

}  // namespace comet
