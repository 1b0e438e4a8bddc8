// SPDX-License-Identifier: Apache-2.0
#include "tune/rows_profile.hpp"

#include <algorithm>

#include "base/check.hpp"

namespace comet {
namespace {

// Of so many rows at least one is for calibration.
constexpr std::size_t kPartForCalibration = 4;

bool is_predictable(const BenchRecord& row) {
  const MeasuredCase& of = row.measured;
  return of.schedule == Schedule::sequential ||
         (of.schedule == Schedule::comet && of.config.waves == 0);
}

// A row competes for the first and the second place of its case.
void enter(ProfileRow& place, const BenchRecord& row) {
  const TimedConfig timed{row.measured.config, row.measured.t_layer_us};
  if (timed.config == place.best.config) {
    place.best.t_layer_us = std::min(place.best.t_layer_us, timed.t_layer_us);
  } else if (timed.t_layer_us < place.best.t_layer_us) {
    place.runner_up = place.best;
    place.best = timed;
    place.commit = row.commit;
    place.date = row.date;
  } else if (!place.runner_up || timed.t_layer_us < place.runner_up->t_layer_us) {
    place.runner_up = timed;
  }
}

}  // namespace

RowSplit split_rows(std::span<const BenchRecord> rows) {
  std::vector<std::int64_t> tokens;
  for (const BenchRecord& row : rows) {
    if (is_predictable(row)) tokens.push_back(row.measured.of.tokens);
  }
  if (tokens.empty()) return {};
  std::sort(tokens.begin(), tokens.end());
  const std::int64_t most = tokens[(tokens.size() - 1) / kPartForCalibration];
  RowSplit split;
  for (const BenchRecord& row : rows) {
    if (!is_predictable(row)) continue;
    (row.measured.of.tokens <= most ? split.calibration : split.held_out).push_back(row.measured);
  }
  return split;
}

Profile profile_of_rows(std::span<const BenchRecord> rows) {
  check(!rows.empty(), ErrorCode::invalid_argument, "[rows] no layer of uniform routing in them");
  const BenchRecord& first = rows.front();
  Profile profile{.origin = {.backend = first.measured.of.backend, .device = first.device},
                  .rates = {},
                  .rows = {}};
  for (const BenchRecord& row : rows) {
    check(row.device == first.device && row.measured.of.backend == profile.origin.backend,
          ErrorCode::mismatch, "[rows] of {} and of {}: a profile is of one device", first.device,
          row.device);
    if (row.measured.schedule != Schedule::comet) continue;
    if (ProfileRow* const place = find_exact_row(profile, row.measured.of, Schedule::comet)) {
      enter(*place, row);
    } else {
      add_row(profile, {.of = row.measured.of,
                        .best = {row.measured.config, row.measured.t_layer_us},
                        .runner_up = {},
                        .commit = row.commit,
                        .date = row.date});
    }
  }
  return profile;
}

}  // namespace comet
