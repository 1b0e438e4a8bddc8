// SPDX-License-Identifier: Apache-2.0
#include "comm/progress_board.hpp"

#include <fmt/core.h>

#include <utility>

#include "base/name_table.hpp"

namespace comet {
namespace {

constexpr NameTable<Stage, 6> kStages{{{Stage::idle, "idle"},
                                       {Stage::publish, "publish"},
                                       {Stage::plan, "plan"},
                                       {Stage::dispatch_gemm, "dispatch_gemm"},
                                       {Stage::gemm_combine, "gemm_combine"},
                                       {Stage::reference, "reference"}}};

}  // namespace

std::string_view to_string(Stage stage) noexcept { return name_of(kStages, stage); }

ProgressBoard::ProgressBoard(int size, std::atomic<std::uint64_t>* words,
                             std::function<bool(int rank)> is_stopped)
    : size_(size), words_(words), is_stopped_(std::move(is_stopped)) {
  if (words == nullptr) {
    own_words_ = std::make_unique<std::atomic<std::uint64_t>[]>(size);
    words_ = own_words_.get();
  }
  for (int rank = 0; rank < size; ++rank) set(rank, {});
}

void ProgressBoard::set(int rank, const Progress& progress) noexcept {
  words_[rank].store(pack_progress(progress), std::memory_order_relaxed);
}

Progress ProgressBoard::get(int rank) const noexcept {
  const std::uint64_t word = words_[rank].load(std::memory_order_relaxed);
  return {static_cast<std::uint32_t>(word >> 32),
          static_cast<Stage>(static_cast<std::uint8_t>(word >> 24)),
          static_cast<std::int32_t>(word & 0xffffffU) - 1};
}

int ProgressBoard::find_cause(int direct) const {
  int rank = direct;
  // More steps than ranks are a cycle, which only stale words make: they know no better than the
  // reporter does.
  for (int step = 0; step < size_; ++step) {
    if (is_stopped(rank)) return rank;
    const int next = get(rank).waits_for;
    if (next < 0 || next >= size_ || next == rank) return rank;
    rank = next;
  }
  return direct;
}

std::string ProgressBoard::describe_cause(int direct) const {
  const int rank = find_cause(direct);
  const Progress progress = get(rank);
  const char* const stopped = is_stopped(rank) ? ", its process is stopped" : "";
  if (progress.stage != Stage::idle) {
    return fmt::format("cause: rank {}, in {} of call {}{}", rank, to_string(progress.stage),
                       progress.epoch, stopped);
  }
  if (progress.epoch == 0) {
    return fmt::format("cause: rank {}, has not entered a call yet{}", rank, stopped);
  }
  return fmt::format("cause: rank {}, not in a call since call {}{}", rank, progress.epoch,
                     stopped);
}

}  // namespace comet
