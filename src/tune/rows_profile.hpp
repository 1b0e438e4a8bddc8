// SPDX-License-Identifier: Apache-2.0
// A profile from rows that `comet bench` has measured already.
#pragma once

#include <span>
#include <vector>

#include "tune/bench_rows.hpp"
#include "tune/profile.hpp"

namespace comet {

/// Rows of one device, apart by whether calibration takes them.
struct RowSplit {
  /// Those with the fewest tokens: of as few numbers of tokens as have a quarter of the rows.
  std::vector<MeasuredCase> calibration;
  std::vector<MeasuredCase> held_out;  ///< The others: what a prediction can be judged by.
};

/// Of schedules and choices that the model knows: of comet those that leave waves to be chosen.
RowSplit split_rows(std::span<const BenchRecord> rows);

/// For each case the fastest and the second fastest choice of comet that was measured. Throws
/// Error(mismatch) if the rows are of several devices, and Error(invalid_argument) if there are
/// none.
Profile profile_of_rows(std::span<const BenchRecord> rows);

}  // namespace comet
