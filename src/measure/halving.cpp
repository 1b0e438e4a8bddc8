// SPDX-License-Identifier: Apache-2.0
#include "measure/halving.hpp"

#include <algorithm>

namespace comet {
namespace {

struct Contestant {
  std::size_t index = 0;
  std::optional<double> best_us;
};

bool is_faster(const Contestant& a, const Contestant& b) { return *a.best_us < *b.best_us; }

// One trial of each; false if the time was over before the last.
bool try_all(std::vector<Contestant>& contestants, const Trial& trial) {
  for (Contestant& contestant : contestants) {
    const std::optional<double> us = trial(contestant.index);
    if (!us) return false;
    contestant.best_us = std::min(*us, contestant.best_us.value_or(*us));
  }
  return true;
}

std::size_t next_size(std::size_t size, std::size_t keep) { return std::max(keep, (size + 1) / 2); }

}  // namespace

std::vector<std::size_t> successive_halving(std::size_t count, std::size_t keep,
                                            const Trial& trial) {
  std::vector<Contestant> contestants;
  for (std::size_t i = 0; i < count; ++i) contestants.push_back({i, {}});
  bool has_time = try_all(contestants, trial);
  std::erase_if(contestants, [](const Contestant& one) { return !one.best_us; });
  std::stable_sort(contestants.begin(), contestants.end(), is_faster);
  while (has_time) {
    const bool is_last = contestants.size() <= keep;
    contestants.resize(std::min(contestants.size(), next_size(contestants.size(), keep)));
    has_time = try_all(contestants, trial) && !is_last && contestants.size() > keep;
    std::stable_sort(contestants.begin(), contestants.end(), is_faster);
  }
  std::vector<std::size_t> best;
  for (std::size_t i = 0; i < std::min(keep, contestants.size()); ++i) {
    best.push_back(contestants[i].index);
  }
  return best;
}

std::size_t halving_trials(std::size_t count, std::size_t keep) {
  std::size_t trials = 0;
  const auto counted = [&trials](std::size_t) {
    ++trials;
    return std::optional<double>(0);
  };
  successive_halving(count, keep, counted);
  return trials;
}

}  // namespace comet
