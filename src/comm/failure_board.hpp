// SPDX-License-Identifier: Apache-2.0
// FailureBoard: how one rank's fault ends the waits of all others with the same sentence.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "comet/error.hpp"

namespace comet {

/// Shared by the ranks of a world. The first report wins; later ones are dropped.
class FailureBoard {
 public:
  /// Also tells kernels: `word`, in pinned host memory, holds `value` while there is a record, if
  /// it was 0 before. Before any report.
  void mirror(std::uint32_t* word, std::uint32_t value) noexcept {
    word_ = word;
    word_value_ = value;
  }

  /// Polled by every wait; one relaxed-cost load.
  bool failed() const noexcept { return failed_.load(std::memory_order_acquire); }

  /// Records a fault of `rank`; returns false if there already was one.
  bool report(int rank, ErrorCode code, const std::string& sentence);

  /// Forgets the record. Only while no rank is in a call: World::recover.
  void clear();

  /// Throws the recorded fault: with its own code on the rank that reported it, on others with
  /// ErrorCode::timeout if it was one, else ErrorCode::peer. Throws Error(internal) without a
  /// record.
  [[noreturn]] void rethrow(int rank) const;

 private:
  struct Record {
    int rank;
    ErrorCode code;
    std::string sentence;
  };

  std::atomic<bool> failed_{false};
  std::uint32_t* word_ = nullptr;
  std::uint32_t word_value_ = 0;
  mutable std::mutex mutex_;
  std::optional<Record> record_;
};

}  // namespace comet
