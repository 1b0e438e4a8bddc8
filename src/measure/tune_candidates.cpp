// SPDX-License-Identifier: Apache-2.0
#include "measure/tune_candidates.hpp"

#include <algorithm>

namespace comet {

std::vector<int> worker_splits(int num_workers) {
  std::vector<int> splits = {0};
  if (num_workers > 1) splits.push_back(1);
  if (num_workers / 2 > 1) splits.push_back(num_workers / 2);
  return splits;
}

std::vector<ForwardOptions> tune_candidates(const BenchCase& bench, Schedule schedule,
                                            int num_workers, std::int64_t panel,
                                            std::span<const std::int64_t> groups) {
  const ForwardOptions base{.schedule = schedule,
                            .panel = panel,
                            .chunk = bench.chunk,
                            .n_c_dispatch = 0,
                            .n_c_combine = 0};
  const bool is_pipelined = schedule == Schedule::pipelined;
  if (!is_pipelined && schedule != Schedule::comet) return {base};
  std::vector<ForwardOptions> candidates;
  const auto add = [&](std::int64_t parts, int n_c) {
    ForwardOptions options = base;
    options.groups = parts;
    options.n_c_dispatch = bench.n_c_dispatch >= 0 ? bench.n_c_dispatch : n_c;
    options.n_c_combine = bench.n_c_combine >= 0 ? bench.n_c_combine : n_c;
    if (is_pipelined) {  // reserved for both stages, and one worker computes
      options.n_c_dispatch = std::min(options.n_c_dispatch, num_workers - 1);
      options.n_c_combine = options.n_c_dispatch;
    }
    candidates.push_back(options);
  };
  const std::vector<int> splits = bench.n_c_dispatch >= 0 && bench.n_c_combine >= 0
                                      ? std::vector<int>{0}
                                      : worker_splits(num_workers);
  for (const std::int64_t parts : is_pipelined ? std::span(bench.chunk_degrees) : groups) {
    for (const int n_c : splits) add(parts, n_c);
  }
  return candidates;
}

}  // namespace comet
