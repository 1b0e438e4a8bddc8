// SPDX-License-Identifier: Apache-2.0
#include "layer/auto_options.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/int_math.hpp"
#include "base/processor.hpp"
#include "layer/device_calls.hpp"

namespace comet {
namespace {

// What a rank tells the others of itself.
struct Place {
  std::int32_t workers = 0;
  std::int32_t device = -1;
};

TuneCase case_of_layer(const MoeDesc& desc, const ParallelDesc& parallel, int workers,
                       const RankDeviceInfo& device, World& world) {
  const Place mine{device.device < 0 ? workers : device.multiprocessors, device.device};
  std::vector<Place> places(static_cast<std::size_t>(world.size()));
  world.all_gather(&mine, places.data(), sizeof(Place));
  TuneCase of;
  of.desc = desc;
  of.parallel = parallel;
  of.backend = world.backend();
  of.link = world.link();
  // A rate that is still to be measured is no link to reckon with.
  if (of.link.kind == LinkSpec::Kind::paced && of.link.gigabytes_per_second <= 0) of.link = {};
  of.link.auto_ratio = 0;
  of.workers = places.front().workers;
  of.ranks_per_device =
      static_cast<int>(std::count_if(places.begin(), places.end(), [&](const Place& place) {
        return place.device == places.front().device;
      }));
  return of;
}

ProfileOrigin origin_of(World& world, const RankDeviceInfo& device) {
  return {.backend = world.backend(),
          .device = device.device < 0 ? processor_name() : device.name,
          .world = std::string(world.kind())};
}

}  // namespace

ForwardOptions fill_in(const ForwardOptions& options, const TuneConfig& config) {
  ForwardOptions chosen = options;
  if (options.groups == 0) chosen.groups = config.groups;
  if (options.panel == 0) chosen.panel = config.panel;
  if (options.chunk == 0) chosen.chunk = config.chunk;
  if (options.waves == 0) chosen.waves = config.waves;
  if (options.n_c_dispatch == -1 && options.n_c_combine == -1) {
    chosen.n_c_dispatch = config.n_c_dispatch;
    chosen.n_c_combine = config.n_c_combine;
    chosen.placement = config.placement;
  }
  return chosen;
}

AutoOptions::AutoOptions(const MoeDesc& desc, const ParallelDesc& parallel,
                         const LayerOptions& options, World& world)
    : most_tokens_(desc.max_tokens * parallel.world_size()) {
  const RankDeviceInfo device = describe_device(world);
  tuning_ = &current_tuning(origin_of(world, device));
  of_ = case_of_layer(desc, parallel, options.num_workers, device, world);
  // On a CPU every group has half-empty tiles of its own, which a limit of rows may not allow for.
  const bool is_tight = of_.backend == Backend::cpu && options.max_rows > 0;
  most_groups_ = is_tight ? 1 : options.max_groups;
}

std::int64_t AutoOptions::tokens_of(std::int64_t expected) const {
  return max_of(1, expected > 0 ? min_of(expected, most_tokens_) : most_tokens_);
}

const Choice& AutoOptions::choice_for(std::int64_t tokens) {
  const auto bucket = static_cast<std::size_t>(
      std::clamp(std::lround(std::log2(static_cast<double>(tokens))), 0L, kBuckets - 1L));
  const bool is_full = tokens == max_of(1, most_tokens_);
  std::optional<Choice>& cached = is_full ? full_ : partly_[bucket];
  if (!cached) {
    of_.tokens = is_full ? tokens : std::int64_t{1} << bucket;
    cached = choose_config(*tuning_, of_);
    cached->config.groups = min_of(cached->config.groups, most_groups_);
  }
  return *cached;
}

ForwardOptions AutoOptions::resolve(const ForwardOptions& options) {
  ForwardOptions chosen = options;
  if (options.groups != 0) return chosen;
  chosen.groups = 1;
  if (options.schedule != Schedule::comet) return chosen;
  return fill_in(options, choice_for(tokens_of(options.expected_tokens)).config);
}

std::string AutoOptions::explain(std::int64_t tokens) {
  const Choice& choice = choice_for(tokens_of(tokens));
  of_.tokens = tokens_of(tokens);
  return explain_choice(choice, of_);
}

}  // namespace comet
