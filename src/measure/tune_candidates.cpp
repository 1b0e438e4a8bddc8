// SPDX-License-Identifier: Apache-2.0
#include "measure/tune_candidates.hpp"

#include <algorithm>

#include "tune/candidates.hpp"

namespace comet {

namespace {

// Where comet communicates on GPUs: warps of all blocks, or some blocks.
struct Split {
  Placement placement = Placement::warps;
  int n_c = 0;
};

std::vector<Split> device_splits(const BenchCase& bench, int num_workers) {
  std::vector<Split> splits;
  if (bench.placement != Placement::blocks) splits.push_back({Placement::warps, num_workers});
  if (bench.placement == Placement::warps) return splits;
  for (const int n_c : worker_splits(bench.backend, num_workers)) {
    splits.push_back({Placement::blocks, n_c});
  }
  return splits;
}

std::vector<Split> splits_to_try(const BenchCase& bench, Schedule schedule, int num_workers) {
  const bool is_comet = schedule == Schedule::comet;
  if (!is_comet && schedule != Schedule::pipelined) return {Split{}};
  const bool is_given = bench.n_c_dispatch >= 0 && bench.n_c_combine >= 0;
  if (is_given) return {{.placement = bench.placement.value_or(Placement::warps)}};
  if (is_comet && bench.backend == Backend::cuda) return device_splits(bench, num_workers);
  std::vector<Split> splits;
  for (const int n_c : worker_splits(bench.backend, num_workers)) {
    splits.push_back({Placement::warps, n_c});
  }
  return splits;
}

}  // namespace

std::vector<ForwardOptions> tune_candidates(const BenchCase& bench, Schedule schedule,
                                            const TuneSpace& space) {
  const bool is_pipelined = schedule == Schedule::pipelined;
  const bool is_grouped = is_pipelined || schedule == Schedule::comet;
  const std::vector<std::int64_t> one = {1};
  const auto& parts = is_pipelined ? bench.chunk_degrees : is_grouped ? space.groups : one;
  const std::vector<Split> splits = splits_to_try(bench, schedule, space.num_workers);
  std::vector<ForwardOptions> candidates;
  for (const std::int64_t panel : space.panels) {
    for (const std::int64_t groups : parts) {
      for (const Split& split : splits) {
        ForwardOptions options{.schedule = schedule,
                               .groups = groups,
                               .panel = panel,
                               .chunk = bench.chunk,
                               .n_c_dispatch = split.n_c,
                               .n_c_combine = split.n_c,
                               .placement = split.placement};
        if (is_grouped && bench.n_c_dispatch >= 0) options.n_c_dispatch = bench.n_c_dispatch;
        if (is_grouped && bench.n_c_combine >= 0) options.n_c_combine = bench.n_c_combine;
        if (schedule == Schedule::comet) options.waves = bench.waves;
        if (is_pipelined) {  // reserved for both stages, and one worker computes
          const int fewest = bench.backend == Backend::cuda ? 1 : 0;  // copies need some there
          options.n_c_dispatch =
              std::max(fewest, std::min(options.n_c_dispatch, space.num_workers - 1));
          options.n_c_combine = options.n_c_dispatch;
        }
        candidates.push_back(options);
        // On cuda what is reserved matters between chunks only.
        if (is_pipelined && groups == 1 && bench.backend == Backend::cuda) break;
      }
    }
  }
  return candidates;
}

}  // namespace comet
