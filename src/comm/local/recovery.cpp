// SPDX-License-Identifier: Apache-2.0
#include "comm/local/recovery.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.hpp"

namespace comet {

bool Recovery::all_here() const {
  return std::all_of(here_.begin(), here_.end(), [](bool here) { return here; });
}

// Ranks whose waits ended between are not missing: they had come, only not all at once with the
// others.
std::string Recovery::missing_since(Clock::time_point began) const {
  std::vector<int> never_here, not_here;
  for (std::size_t rank = 0; rank < here_.size(); ++rank) {
    if (here_[rank]) continue;
    not_here.push_back(static_cast<int>(rank));
    if (left_[rank] < began) never_here.push_back(static_cast<int>(rank));
  }
  const std::vector<int>& missing = never_here.empty() ? not_here : never_here;
  return fmt::format("{} {}", missing.size() == 1 ? "rank" : "ranks", fmt::join(missing, ", "));
}

std::uint32_t Recovery::meet(const WorldView& view,
                             const std::function<void(std::uint32_t epoch)>& reset) {
  const Clock::time_point began = Clock::now();
  std::unique_lock lock(mutex_);
  const std::uint64_t generation = generation_;
  here_[view.rank] = true;
  epochs_[view.rank] = view.epoch;
  if (all_here()) {
    // Epochs of ranks differ by one at most: a rank begins e + 1 only after all have begun e.
    base_ = *std::max_element(epochs_.begin(), epochs_.end(), [](std::uint32_t a, std::uint32_t b) {
      return static_cast<std::int32_t>(a - b) < 0;
    });
    reset(base_);
    std::fill(here_.begin(), here_.end(), false);
    ++generation_;
    changed_.notify_all();
    return base_;
  }
  const bool met = changed_.wait_for(lock, view.timeout, [&] { return generation_ != generation; });
  if (met) return base_;
  const std::string missing = missing_since(began);
  here_[view.rank] = false;
  left_[view.rank] = Clock::now();
  fail(ErrorCode::timeout, "[world] rank {} waited {} ms in recover for {}", view.rank,
       std::chrono::duration_cast<std::chrono::milliseconds>(view.timeout).count(), missing);
}

}  // namespace comet
