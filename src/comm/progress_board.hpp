// SPDX-License-Identifier: Apache-2.0
// ProgressBoard: what every rank is doing and for whom it waits, so that an expired wait can name
// the rank that waits for nobody, or that has been stopped, in place of one that is itself held up.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace comet {

/// Where in a call a rank is.
enum class Stage : std::uint8_t { idle, publish, plan, dispatch_gemm, gemm_combine, reference };

std::string_view to_string(Stage stage) noexcept;

struct Progress {
  std::uint32_t epoch = 0;  ///< Call that the rank is in, or that it finished last.
  Stage stage = Stage::idle;
  std::int32_t waits_for = -1;  ///< Rank, or -1 if it waits for nobody.
};

/// The word of a rank's progress, also written by kernels.
constexpr std::uint64_t pack_progress(const Progress& progress) noexcept {
  return (std::uint64_t{progress.epoch} << 32) |
         (std::uint64_t{static_cast<std::uint8_t>(progress.stage)} << 24) |
         static_cast<std::uint64_t>(progress.waits_for + 1);
}

/// One word per rank, written by that rank, read by whoever reports an expiry. Orders nothing: it
/// is a report, and a stale word only makes it less exact.
class ProgressBoard {
 public:
  /// `words` [size] may be given, to share them with kernels; else it has its own. `is_stopped`
  /// tells whether a rank is known to be stopped, if anybody can; any thread may ask.
  explicit ProgressBoard(int size, std::atomic<std::uint64_t>* words = nullptr,
                         std::function<bool(int rank)> is_stopped = nullptr);

  void set(int rank, const Progress& progress) noexcept;
  Progress get(int rank) const noexcept;

  /// Follows who waits for whom from `direct`, the rank that a reporter waits for, to the rank that
  /// waits for nobody or is stopped, whose word may be old; `direct` itself if there is none.
  int find_cause(int direct) const;

  /// "cause: rank 3, in dispatch_gemm of call 7" or "cause: rank 3, not in a call since call 6",
  /// and
  /// ", its process is stopped" if it is.
  std::string describe_cause(int direct) const;

 private:
  bool is_stopped(int rank) const { return is_stopped_ && is_stopped_(rank); }

  int size_;
  std::unique_ptr<std::atomic<std::uint64_t>[]> own_words_;
  std::atomic<std::uint64_t>* words_;  // epoch 32 | stage 8 | waits_for + 1: 24
  std::function<bool(int)> is_stopped_;
};

}  // namespace comet
