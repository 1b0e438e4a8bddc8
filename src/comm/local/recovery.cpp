// SPDX-License-Identifier: Apache-2.0
#include "comm/local/recovery.hpp"

#include <algorithm>

#include "base/check.hpp"

namespace comet {

bool Recovery::all_here() const {
  return std::all_of(here_.begin(), here_.end(), [](bool here) { return here; });
}

std::uint32_t Recovery::meet(const WorldView& view, const std::function<void()>& reset) {
  std::unique_lock lock(mutex_);
  const std::uint64_t generation = generation_;
  here_[view.rank] = true;
  epochs_[view.rank] = view.epoch;
  if (all_here()) {
    // Epochs of ranks differ by one at most: a rank begins e + 1 only after all have begun e.
    base_ = *std::max_element(epochs_.begin(), epochs_.end(), [](std::uint32_t a, std::uint32_t b) {
      return static_cast<std::int32_t>(a - b) < 0;
    });
    reset();
    std::fill(here_.begin(), here_.end(), false);
    ++generation_;
    changed_.notify_all();
    return base_;
  }
  const bool met = changed_.wait_for(lock, view.timeout, [&] { return generation_ != generation; });
  if (met) return base_;
  std::vector<int> missing;
  for (std::size_t rank = 0; rank < here_.size(); ++rank) {
    if (!here_[rank]) missing.push_back(static_cast<int>(rank));
  }
  here_[view.rank] = false;
  fail(ErrorCode::timeout, "[world] rank {} waited {} ms in recover for ranks {}", view.rank,
       std::chrono::duration_cast<std::chrono::milliseconds>(view.timeout).count(),
       fmt::join(missing, ", "));
}

}  // namespace comet
