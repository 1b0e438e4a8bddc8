// SPDX-License-Identifier: Apache-2.0
#include "trace/bench_timelines.hpp"

#include <string>

#include "base/check.hpp"
#include "base/count_text.hpp"

namespace comet {
namespace {

std::string note_of(const BenchRow& row) {
  std::string note;
  if (row.schedule == Schedule::comet) note = count_text(row.groups, "group");
  if (row.schedule == Schedule::pipelined) note = count_text(row.chunks, "chunk");
  if (row.waves > 0) note += ", " + count_text(row.waves, "wave");
  if (note.empty() || row.workers == 1) return note;
  if (row.n_c_dispatch == 0 && row.n_c_combine == 0) return note + ", workers do both";
  return note + fmt::format(", n_c {}/{}", row.n_c_dispatch, row.n_c_combine);
}

Timeline make_timeline(const BenchCase& bench, const BenchRow& row) {
  check(row.recorded.has_value(), ErrorCode::invalid_argument,
        "[trace] {}: the benchmark recorded no call", to_string(row.schedule));
  return {.name = std::string(to_string(row.schedule)),
          .note = note_of(row),
          .num_ranks = static_cast<int>(bench.parallel.world_size()),
          // A multiprocessor's products and its copies are shown apart.
          .num_workers = row.device.empty() ? row.workers : 2 * row.workers,
          .n_c_dispatch = row.n_c_dispatch,
          .n_c_combine = row.n_c_combine,
          .begin_ns = row.recorded->begin_ns,
          .end_ns = row.recorded->end_ns,
          .events = row.recorded->events};
}

}  // namespace

std::vector<Timeline> bench_timelines(const BenchCase& bench, const std::vector<BenchRow>& rows) {
  std::vector<Timeline> timelines;
  for (const BenchRow& row : rows) {
    if (row.schedule != Schedule::reference) timelines.push_back(make_timeline(bench, row));
  }
  return timelines;
}

}  // namespace comet
