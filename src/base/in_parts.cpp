// SPDX-License-Identifier: Apache-2.0
#include "base/in_parts.hpp"

#include <algorithm>
#include <thread>
#include <vector>

namespace comet {

void in_parts(std::int64_t count, std::int64_t threads,
              const std::function<void(std::int64_t begin, std::int64_t end)>& work) {
  threads = std::max<std::int64_t>(threads, 1);
  std::vector<std::jthread> helpers;
  for (std::int64_t i = 1; i < threads; ++i) {
    helpers.emplace_back(work, count * i / threads, count * (i + 1) / threads);
  }
  work(0, count / threads);
}

}  // namespace comet
