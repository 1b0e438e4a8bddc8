// SPDX-License-Identifier: Apache-2.0
#include "routing/capacity.hpp"

#include <vector>

namespace comet {

void apply_capacity(std::int64_t capacity, std::int64_t num_experts, Routing& routing) {
  std::vector<std::int64_t> taken(num_experts, 0);
  for (std::size_t choice = 0; choice < routing.ids.size(); ++choice) {
    std::int32_t& id = routing.ids[choice];
    if (id < 0) continue;
    if (taken[id] < capacity) {
      ++taken[id];
      continue;
    }
    id = -1;
    routing.weights[choice] = 0;
    ++routing.dropped;
  }
}

}  // namespace comet
