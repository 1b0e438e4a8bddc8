// SPDX-License-Identifier: Apache-2.0
#include "tune/candidates.hpp"

#include <algorithm>
#include <optional>

#include "base/int_math.hpp"
#include "tune/predict.hpp"

namespace comet {
namespace {

constexpr std::int64_t kGroupsOnCpu[] = {1, 2, 3, 4, 6, 8};
constexpr std::int64_t kGroupsOnCuda[] = {1, 2, 4, 8};
constexpr std::int64_t kPanelStep = 256;  // of a GPU's tiles

// Where communication runs, and how much of it.
struct Site {
  Placement placement = Placement::warps;
  int n_c = 0;
};

std::vector<Site> sites_of(const TuneCase& of) {
  std::vector<Site> sites;
  if (of.backend == Backend::cuda) sites.push_back({Placement::warps, of.workers});
  const Placement rest = of.backend == Backend::cuda ? Placement::blocks : Placement::warps;
  for (const int n_c : worker_splits(of.backend, of.workers)) sites.push_back({rest, n_c});
  return sites;
}

std::vector<std::int64_t> panels_of(const TuneCase& of) {
  const std::int64_t eighth = ceil_div(of.desc.hidden, 8);
  if (of.backend != Backend::cuda) return {eighth, 2 * eighth};
  const std::int64_t panel = round_up(eighth, kPanelStep);
  return {panel, 2 * panel};
}

}  // namespace

std::vector<int> worker_splits(Backend backend, int num_workers) {
  if (backend == Backend::cuda) {
    std::vector<int> splits = {1};
    for (const int split : {2, 4, 8}) {
      if (2 * split < num_workers) splits.push_back(split);
    }
    return splits;
  }
  std::vector<int> splits = {0};
  if (num_workers > 1) splits.push_back(1);
  if (num_workers / 2 > 1) splits.push_back(num_workers / 2);
  return splits;
}

std::vector<TuneConfig> comet_configs(const TuneCase& of) {
  const bool on_gpus = of.backend == Backend::cuda;
  std::vector<std::int64_t> groups(std::begin(kGroupsOnCpu), std::end(kGroupsOnCpu));
  if (on_gpus) groups.assign(std::begin(kGroupsOnCuda), std::end(kGroupsOnCuda));
  // On a GPU a transfer is cut by rows of a tile, and what a warp can list is asked for by default.
  const std::vector<std::int64_t> chunks =
      on_gpus ? std::vector<std::int64_t>{0} : std::vector<std::int64_t>{0, 64};
  std::vector<TuneConfig> configs;
  for (const std::int64_t panel : panels_of(of)) {
    for (const std::int64_t count : groups) {
      for (const Site& site : sites_of(of)) {
        for (const std::int64_t chunk : chunks) {
          configs.push_back({.groups = count,
                             .panel = panel,
                             .chunk = chunk,
                             .n_c_dispatch = site.n_c,
                             .n_c_combine = site.n_c,
                             .placement = site.placement});
        }
      }
    }
  }
  return configs;
}

std::vector<RankedConfig> rank_configs(const MachineModel& machine, const TuneCase& of,
                                       const std::vector<TuneConfig>& configs) {
  std::vector<RankedConfig> ranked;
  std::optional<CaseLoad> load;  // of configs with the tile of the last one
  for (const TuneConfig& config : configs) {
    if (!load || config.block_m != ranked.back().config.block_m ||
        config.block_n != ranked.back().config.block_n) {
      load = expect_load(of, config);
    }
    ranked.push_back({config, predict(machine, of, *load, Schedule::comet, config).t_layer_us});
  }
  std::stable_sort(ranked.begin(), ranked.end(), [](const RankedConfig& a, const RankedConfig& b) {
    return a.predicted_us < b.predicted_us;
  });
  return ranked;
}

}  // namespace comet
