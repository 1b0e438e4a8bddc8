// SPDX-License-Identifier: Apache-2.0
// Sums of runs of entries, each run to a token, by a warp: what push and home sum have in common.
// An entry is 16 bytes a lane. Entries come through shared memory by asynchronous loads: beside
// products each load takes microseconds, and only many on their way at once make it fast. Kept in
// registers they would be a quarter of these; and bulk copies of 512 bytes each are slower, and
// queue with the products' own. A lane reads what it has loaded itself, so no barrier is needed. A
// warp has its scheduler nearly for itself and issues in order, so what can be known per strip or
// window is not computed per entry.
#pragma once

#include "backend/cuda/device/element.cuh"
#include "backend/cuda/device/ptx.cuh"
#include "base/int_math.hpp"
#include "layout/column_range.hpp"

namespace comet::cuda::overlap {

constexpr int kLanes = 32;
constexpr unsigned kAllLanes = 0xffffffffU;

/// Columns that a warp has at a time: 16 bytes a lane.
constexpr std::int64_t kStrip = kLanes * kRunOf16Bits;

__device__ __forceinline__ int lane_id() { return static_cast<int>(threadIdx.x) % kLanes; }

/// What a warp sums from, in shared memory: kBytes aligned to 16.
struct SumBuffers {
  static constexpr int kStages = 4;
  static constexpr int kBatch = 4;  ///< Entries of a stage.
  static constexpr int kEntryBytes = kLanes * 16;
  static constexpr int kBytes = kStages * kBatch * kEntryBytes;

  std::uint32_t begin;  ///< Address in shared memory.

  /// Where the lane's part of entry `index` of the stage is.
  __device__ __forceinline__ std::uint32_t lane_part(int stage, int index) const {
    return begin + (stage * kBatch + index) * kEntryBytes + lane_id() * 16;
  }
};

/// A panel's columns in strips.
struct Strips {
  std::int64_t begin;   ///< First column.
  std::int64_t hidden;  ///< Columns of a row.
  int count;

  __device__ __forceinline__ std::int64_t column(int strip) const { return begin + strip * kStrip; }
  __device__ __forceinline__ std::int32_t width(int strip) const {
    return static_cast<std::int32_t>(min_of(kStrip, hidden - column(strip)));
  }
};

__device__ __forceinline__ Strips strips_of(const ColumnRange& columns, std::int64_t hidden) {
  return {columns.begin, hidden, static_cast<int>(ceil_div(columns.end - columns.begin, kStrip))};
}

/// Where the strips of one row lie: of rows that are whole, or of rows that are cut into strips
/// which hold a cell of each row, as the combine buffer is.
template <typename Byte>
struct RowPlace {
  Byte* base;
  std::int32_t cell;  ///< 0 for rows that are whole.
};

template <typename T, typename Byte>
__device__ __forceinline__ Byte* strip_at(const RowPlace<Byte>& row, std::int64_t bytes_per_column,
                                          std::int64_t column, std::int32_t width) {
  return row.base + column * bytes_per_column +
         std::int64_t{row.cell} * (width * static_cast<int>(sizeof(T)));
}

/// Up to 32 entries [begin, end) of runs, one lane each.
struct Places {
  int begin;
  int end;
  std::int32_t of;      ///< The lane whose run the lane's entry is of.
  std::int32_t offset;  ///< Which of its entries.
  unsigned last;        ///< Bit j: entry j of the window is its run's last; the same in all lanes.

  __device__ __forceinline__ bool has_entry() const { return begin + lane_id() < end; }
};

/// Entries from `begin` on of `num_runs` runs, of which the lane's is [run_begin, run_end), in the
/// order of lanes. Runs that fit are not cut.
__device__ __forceinline__ Places place_entries(int begin, int num_runs, int run_begin,
                                                int run_end) {
  const int flat = begin + lane_id();
  Places places{.begin = begin, .end = begin + kLanes, .of = 0, .offset = 0, .last = 0};
  const unsigned fits = __ballot_sync(kAllLanes, lane_id() < num_runs && run_end <= places.end);
  if (fits != 0) {
    const int end = __shfl_sync(kAllLanes, run_end, kLanes - 1 - __clz(static_cast<int>(fits)));
    if (end > begin) places.end = end;
  }
  for (int run = 0; run < num_runs - 1; ++run) {
    places.of += __shfl_sync(kAllLanes, run_end, run) <= flat ? 1 : 0;
  }
  places.offset = flat - __shfl_sync(kAllLanes, run_begin, places.of);
  places.last = __ballot_sync(kAllLanes, flat + 1 == __shfl_sync(kAllLanes, run_end, places.of));
  return places;
}

/// Up to 32 entries, a lane each, and where the sums go.
struct Window {
  RowPlace<const std::byte> from;
  RowPlace<std::byte> to;              ///< Of the token that the lane's entry is of.
  std::int64_t from_bytes_per_column;  ///< The same in all lanes, as are those below.
  std::int64_t to_bytes_per_column;
  float weight;
  unsigned last;  ///< Bit j: entry j is its token's last.
  int count;
};

/// Adds the window's entries in order, strip after strip, to `sum`, and stores it after each
/// token's last; the sum then begins anew. What is after the last entry of several strips is no
/// sum. Entries must have been acquired by the warp: by some lane before a __syncwarp. Sums go to
/// addresses that are multiples of 2.
template <typename T>
__device__ __forceinline__ void add_window(const SumBuffers& buffers, const Window& window,
                                           const Strips& strips, float (&sum)[kRunOf16Bits]) {
  constexpr int kBatch = SumBuffers::kBatch;
  const int lane = lane_id();
  const auto from_at = [&](int strip) {
    return strip_at<T>(window.from, window.from_bytes_per_column, strips.column(strip),
                       strips.width(strip));
  };
  int loaded_strip = 0;
  int loaded_entry = 0;
  int load_stage = 0;
  auto from = reinterpret_cast<unsigned long long>(from_at(0));
  // One group a call, also past the end, so that groups can be counted.
  const auto load = [&] {
    if (loaded_strip < strips.count) {
      const bool has_columns = lane * kRunOf16Bits < strips.width(loaded_strip);
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int entry = loaded_entry + i;
        const auto row = reinterpret_cast<const std::byte*>(__shfl_sync(kAllLanes, from, entry));
        if (has_columns && entry < window.count) {
          async_load_16(buffers.lane_part(load_stage, i), row + lane * 16);
        }
      }
      load_stage = (load_stage + 1) % SumBuffers::kStages;
      loaded_entry += kBatch;
      if (loaded_entry >= window.count) {
        loaded_entry = 0;
        ++loaded_strip;
        from = reinterpret_cast<unsigned long long>(from_at(loaded_strip));
      }
    }
    async_commit();
  };
#pragma unroll 1
  for (int i = 0; i < SumBuffers::kStages; ++i) load();
  int stage = 0;
#pragma unroll 1
  for (int strip = 0; strip < strips.count; ++strip) {
    const std::int32_t width = strips.width(strip);
    const bool has_columns = lane * kRunOf16Bits < width;
    const auto to = reinterpret_cast<unsigned long long>(
        strip_at<T>(window.to, window.to_bytes_per_column, strips.column(strip), width));
#pragma unroll 1
    for (int first = 0; first < window.count; first += kBatch) {
      async_wait<SumBuffers::kStages - 1>();
      uint4 runs[kBatch];
      float weights[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        runs[i] = load_shared(buffers.lane_part(stage, i));
        weights[i] = __shfl_sync(kAllLanes, window.weight, first + i);
      }
      // Entries past the last one are added too: they come after the last sum.
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        add_run<T>(sum, runs[i], weights[i]);
        if ((window.last >> (first + i) & 1U) == 0) continue;
        auto* const row = reinterpret_cast<T*>(__shfl_sync(kAllLanes, to, first + i));
        if (has_columns) store_run_unaligned(row + lane * kRunOf16Bits, round_run<T>(sum));
#pragma unroll
        for (float& s : sum) s = 0;
      }
      load();
      stage = (stage + 1) % SumBuffers::kStages;
    }
    if (strip + 1 == strips.count) return;
#pragma unroll
    for (float& s : sum) s = 0;
  }
}

/// Sums `total` entries of runs over a panel; the lane's run has `length` of them.
/// `window_at(begin)` makes the window of entries from `begin` on, runs that fit not cut.
template <typename T, typename WindowAt>
__device__ __forceinline__ void add_entries(const SumBuffers& buffers, const Strips& strips,
                                            int total, int length, WindowAt window_at) {
  // A run that is cut carries its sum from window to window, of one strip.
  const int at_once = __any_sync(kAllLanes, length > kLanes) != 0 ? 1 : strips.count;
#pragma unroll 1
  for (int first = 0; first < strips.count; first += at_once) {
    const Strips now{strips.column(first), strips.hidden, at_once};
    float sum[kRunOf16Bits] = {};
#pragma unroll 1
    for (int begin = 0; begin < total;) {
      const Window window = window_at(begin);
      add_window<T>(buffers, window, now, sum);
      begin += window.count;
      // Of runs that end with the window; those past its last entry were added too.
      if ((window.last >> (window.count - 1) & 1U) == 0) continue;
#pragma unroll
      for (float& s : sum) s = 0;
    }
  }
}

}  // namespace comet::cuda::overlap
