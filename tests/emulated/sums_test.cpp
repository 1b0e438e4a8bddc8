// SPDX-License-Identifier: Apache-2.0
// Sums of the fused schedule, by an emulated warp, against plain ones: any lengths of runs, rows
// that are whole or in cells, panels, columns that fill no strip, targets that are not aligned.
// Elements are whole numbers.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "backend/cuda/kernels/overlap_sums.cuh"

namespace comet::cuda::overlap {
namespace {

using Element = std::uint16_t;

constexpr int kStripColumns = static_cast<int>(kStrip);
constexpr int kTargets = 40;
constexpr Element kUntouched = 0xabcd;

struct Case {
  int hidden = 8;
  ColumnRange columns;
  bool from_cells = false;
  bool to_cells = false;
  bool is_aligned = true;
  std::vector<int> lengths;  // of each run
  std::vector<int> rows;     // of each entry
  std::vector<float> weights;
  std::vector<int> targets;  // of each run, all others
  bool is_eager = false;

  std::string text() const {
    return fmt::format(
        "hidden {}, columns {} to {}, {} runs of {} entries, cells {} to {}, aligned {}, eager {}",
        hidden, columns.begin, columns.end, lengths.size(), rows.size(), from_cells, to_cells,
        is_aligned, is_eager);
  }
};

// Where column `column` of row `row` is, of `num_rows` rows of `stride` elements each, or in cells.
std::size_t element_at(const Case& of, bool in_cells, int stride, int num_rows, int row,
                       int column) {
  if (!in_cells) return static_cast<std::size_t>(row) * stride + column;
  const int strip = column / kStripColumns * kStripColumns;
  const int width = std::min(kStripColumns, of.hidden - strip);
  return static_cast<std::size_t>(strip) * num_rows + static_cast<std::size_t>(row) * width +
         (column - strip);
}

// Elements from a multiple of 16 bytes on, or 2 bytes after one.
class Buffer {
 public:
  Buffer(std::size_t count, bool is_aligned, Element value) : storage_(count + 16, value) {
    const std::size_t past =
        reinterpret_cast<std::uintptr_t>(storage_.data()) % 16 / sizeof(Element);
    begin_ = storage_.data() + (past == 0 ? 0 : 8 - past) + (is_aligned ? 0 : 1);
  }
  Element* begin() { return begin_; }

 private:
  std::vector<Element> storage_;
  Element* begin_;
};

Case draw_case(std::mt19937& random) {
  const auto draw = [&](int low, int high) {
    return low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1));
  };
  Case of;
  of.hidden = 8 * draw(1, 200);
  const int strips = (of.hidden + kStripColumns - 1) / kStripColumns;
  const int first = draw(0, strips - 1);
  of.columns = {first * kStripColumns,
                std::min(of.hidden, std::min(strips, first + draw(1, 4)) * kStripColumns)};
  of.from_cells = draw(0, 1) == 0;
  of.to_cells = draw(0, 1) == 0;
  of.is_aligned = of.to_cells || draw(0, 3) != 0;
  of.is_eager = draw(0, 1) == 0;
  const int kind = draw(0, 3);
  of.lengths.resize(static_cast<std::size_t>(draw(1, kLanes)));
  for (int& length : of.lengths) {
    length = kind == 0         ? 1
             : kind == 1       ? draw(1, 3)
             : kind == 2       ? draw(0, 8)
             : draw(0, 5) == 0 ? draw(30, 100)
                               : draw(1, 4);
  }
  const int total = std::accumulate(of.lengths.begin(), of.lengths.end(), 0);
  for (int i = 0; i < total; ++i) {
    of.rows.push_back(draw(0, total + 4));
    of.weights.push_back(static_cast<float>(draw(1, 3)));
  }
  of.targets.resize(kTargets);
  std::iota(of.targets.begin(), of.targets.end(), 0);
  std::shuffle(of.targets.begin(), of.targets.end(), random);
  return of;
}

class Sums {
 public:
  explicit Sums(const Case& of)
      : of_(of),
        num_rows_(static_cast<int>(of.rows.size()) + 5),
        to_stride_(of.hidden + (of.is_aligned ? 8 : 3)),
        from_(static_cast<std::size_t>(num_rows_) * of.hidden, true, 0),
        to_(static_cast<std::size_t>(kTargets) * to_stride_, of.is_aligned, kUntouched) {
    const std::size_t count = static_cast<std::size_t>(num_rows_) * of.hidden;
    for (std::size_t i = 0; i < count; ++i) from_.begin()[i] = static_cast<Element>(i * 7919 % 97);
  }

  // Twice, so that the second finds what the first has left.
  void run() {
    sum_memory = {
        .shared = std::vector<std::byte>(SumBuffers::kBytes, std::byte{0xff}),
        .entries_begin = reinterpret_cast<const std::byte*>(from_.begin()),
        .entries_end = reinterpret_cast<const std::byte*>(from_.begin() + num_rows_ * of_.hidden),
        .is_eager = of_.is_eager};
    emulated::run_grid(1, kLanes, false, [&] {
      add();
      add();
      for (const SumMemory::Group& group : sum_memory.own().groups) {
        if (!group.empty()) emulated::fail_thread("left loads that nobody waited for");
      }
    });
  }

  // Where a sum differs from the plain one, or "".
  std::string fault() {
    std::vector<Element> expected(static_cast<std::size_t>(kTargets) * to_stride_, kUntouched);
    std::size_t entry = 0;
    for (std::size_t run = 0; run < of_.lengths.size(); ++run) {
      const std::size_t end = entry + of_.lengths[run];
      for (auto column = static_cast<int>(of_.columns.begin);
           column < of_.columns.end && entry < end; ++column) {
        std::int64_t sum = 0;
        for (std::size_t i = entry; i < end; ++i) {
          sum += static_cast<std::int64_t>(of_.weights[i]) *
                 from_.begin()[element_at(of_, of_.from_cells, of_.hidden, num_rows_, of_.rows[i],
                                          column)];
        }
        expected[element_at(of_, of_.to_cells, to_stride_, kTargets, of_.targets[run], column)] =
            static_cast<Element>(sum);
      }
      entry = end;
    }
    for (std::size_t i = 0; i < expected.size(); ++i) {
      if (to_.begin()[i] != expected[i]) {
        return fmt::format("element {}: {}, not {}", i, to_.begin()[i], expected[i]);
      }
    }
    return "";
  }

 private:
  // A lane's part.
  void add() {
    const int lane = lane_id();
    const auto num_runs = static_cast<int>(of_.lengths.size());
    const int length = lane < num_runs ? of_.lengths[static_cast<std::size_t>(lane)] : 0;
    const int begin =
        std::accumulate(of_.lengths.begin(), of_.lengths.begin() + std::min(lane, num_runs), 0);
    const auto total = static_cast<int>(of_.rows.size());
    add_entries<Element>(
        SumBuffers{0}, strips_of(of_.columns, of_.hidden), total, length, of_.is_aligned,
        [&](int first) {
          const Places places = place_entries(first, num_runs, begin, begin + length);
          const int run_begin = __shfl_sync(kAllLanes, begin, places.of);
          const auto entry =
              static_cast<std::size_t>(places.has_entry() ? run_begin + places.offset : 0);
          const int row = places.has_entry() ? of_.rows[entry] : 0;
          const int target = of_.targets[static_cast<std::size_t>(places.of)];
          auto* const to =
              reinterpret_cast<std::byte*>(to_.begin() + (of_.to_cells ? 0 : target * to_stride_));
          return Window{
              .from = reinterpret_cast<const std::byte*>(from_.begin()),
              .from_row =
                  of_.from_cells ? 0 : static_cast<std::uint32_t>(row * of_.hidden / kRunOf16Bits),
              .from_cell = of_.from_cells ? row : 0,
              .from_cells = of_.from_cells ? num_rows_ : 1,
              .to = {to, of_.to_cells ? target : 0},
              .to_bytes_per_column =
                  (of_.to_cells ? kTargets : 1) * static_cast<int>(sizeof(Element)),
              .weight = places.has_entry() ? of_.weights[entry] : 1e6F,
              .last = places.last,
              .count = places.end - first};
        });
  }

  const Case& of_;
  int num_rows_;
  int to_stride_;
  Buffer from_;
  Buffer to_;
};

TEST(Sums, AnyRunsGiveTheirSums) {
  std::mt19937 random(20261130);
  for (int trial = 0; trial < 1500; ++trial) {
    const Case of = draw_case(random);
    Sums sums(of);
    sums.run();
    ASSERT_EQ(sums.fault(), "") << "trial " << trial << ": " << of.text();
  }
}

}  // namespace
}  // namespace comet::cuda::overlap
