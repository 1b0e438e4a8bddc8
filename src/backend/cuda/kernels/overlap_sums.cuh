// SPDX-License-Identifier: Apache-2.0
// Sums of runs of entries, each run to a token, by a warp: what push and home sum have in common.
// An entry is 16 bytes a lane. Entries come through shared memory by asynchronous loads: beside
// products each load takes microseconds, and only many on their way at once make it fast. In
// registers, where eight fit, sums take longer, and so they do by bulk copies of 512 bytes each. A
// lane reads what it has loaded itself, so entries need no barrier. More on their way make no
// difference. What counts then are instructions, of which rounding and storing are a good part, since
// a warp issues in order. So sums are straight code, which looks at all it needs at once, and what can
// be known per strip or window is not computed per entry.
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

/// What a warp sums from, in shared memory: kBytes aligned to 16. Entries, and of each of a window what all lanes must
/// know of it.
struct SumBuffers {
  static constexpr int kStages = 3;
  static constexpr int kBatch = 4;  ///< Entries of a stage.
  static constexpr int kEntryBytes = kLanes * 16;
  static constexpr int kBytes = 8192;

  std::uint32_t begin;  ///< Address in shared memory.

  /// Where the lane's part of entry `index` of the stage is.
  __device__ __forceinline__ std::uint32_t lane_part(int stage, int index) const {
    return begin + (stage * kBatch + index) * kEntryBytes + lane_id() * 16;
  }
  /// Of an entry: where it comes from, 32 bits; its weight; where its token's sum goes, 64 bits.
  __device__ __forceinline__ std::uint32_t from(int entry) const { return begin + kToldAt + entry * 4; }
  __device__ __forceinline__ std::uint32_t weight(int entry) const { return from(kLanes) + entry * 4; }
  __device__ __forceinline__ std::uint32_t to(int entry) const { return weight(kLanes) + entry * 8; }

 private:
  static constexpr int kToldAt = kStages * kBatch * kEntryBytes;
  static_assert(kToldAt + kLanes * 16 <= kBytes);
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
  // As many runs as end before: ends ascend, and each look takes long beside products.
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) {
    const int next = places.of + step;
    const int end = __shfl_sync(kAllLanes, run_end, next - 1);
    if (next < num_runs && end <= flat) places.of = next;
  }
  places.offset = flat - __shfl_sync(kAllLanes, run_begin, places.of);
  places.last = __ballot_sync(kAllLanes, flat + 1 == __shfl_sync(kAllLanes, run_end, places.of));
  return places;
}

/// Up to 32 entries, a lane each, and where the sums go. What is not of entries is the same in all lanes.
struct Window {
  const std::byte* from;           ///< Of all entries, which lie at multiples of 16 bytes.
  std::uint32_t from_row;          ///< Of the lane's entry if rows are whole: where it begins, in units of 16 bytes.
  std::int32_t from_cell;          ///< If they are not: its cell.
  std::int32_t from_cells;         ///< Of a strip; 1 if rows are whole.
  RowPlace<std::byte> to;          ///< Of the token that the lane's entry is of.
  std::int64_t to_bytes_per_column;
  float weight;
  unsigned last;  ///< Bit j: entry j is its token's last.
  int count;
};

/// Where the lane's entry has the strip, in units of 16 bytes from window.from on.
__device__ __forceinline__ std::uint32_t from_at(const Window& window, const Strips& strips, int strip) {
  const auto column = static_cast<std::uint32_t>(strips.column(strip) / kRunOf16Bits);
  const auto width = static_cast<std::uint32_t>(strips.width(strip) / kRunOf16Bits);
  return window.from_row + column * window.from_cells + window.from_cell * width;
}

/// Where the sum of the lane's entry has the strip.
template <typename T>
__device__ __forceinline__ unsigned long long to_at(const Window& window, const Strips& strips, int strip) {
  return reinterpret_cast<unsigned long long>(strip_at<T>(
      window.to, window.to_bytes_per_column, strips.column(strip), strips.width(strip)));
}

/// Adds the window's entries in order, strip after strip, to `sum`, and stores it after each
/// token's last; the sum then begins anew. What is after the last entry of several strips is no
/// sum. Entries must have been acquired by the warp: by some lane before a __syncwarp. Sums go to
/// multiples of 16 bytes.
template <typename T>
__device__ __forceinline__ void add_window(const SumBuffers& buffers, const Window& window,
                                           const Strips& strips, float (&sum)[kRunOf16Bits]) {
  constexpr int kBatch = SumBuffers::kBatch;
  constexpr std::uint32_t kStageBytes = kBatch * SumBuffers::kEntryBytes;
  const int lane = lane_id();
  const std::uint32_t stages = buffers.lane_part(0, 0);
  const std::uint32_t stages_end = buffers.lane_part(SumBuffers::kStages, 0);
  const auto advance = [&](std::uint32_t& stage) {
    stage += kStageBytes;
    if (stage == stages_end) stage = stages;
  };
  const auto has_columns = [&](int strip) {
    return strip < strips.count && lane * kRunOf16Bits < strips.width(strip);
  };
  const auto tell_from = [&](int strip) {
    store_shared(buffers.from(lane), from_at(window, strips, strip));
    __syncwarp();
  };
  __syncwarp();  // all have read those of the window before
  store_shared(buffers.weight(lane), __float_as_uint(window.weight));
  tell_from(0);
  const std::byte* const from_lane = window.from + lane * 16;
  int loaded_strip = 0;
  int loaded_entry = 0;
  int loaded_count = has_columns(0) ? window.count : 0;  // of the strip's entries those that the lane loads
  std::uint32_t load_stage = stages;
  // One group a call, also past the end, so that groups can be counted. `from` is of the entries from loaded_entry on.
  const auto load = [&](const uint4& from) {
    const std::uint32_t rows[kBatch] = {from.x, from.y, from.z, from.w};
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (loaded_entry + i < loaded_count) {
        async_load_16(load_stage + i * SumBuffers::kEntryBytes, from_lane + std::uint64_t{rows[i]} * 16);
      }
    }
    async_commit();
    advance(load_stage);
    loaded_entry += kBatch;
    if (loaded_entry < window.count || loaded_strip >= strips.count) return;
    loaded_entry = 0;
    ++loaded_strip;
    loaded_count = has_columns(loaded_strip) ? window.count : 0;
    __syncwarp();  // all have read
    tell_from(loaded_strip);
  };
#pragma unroll 1
  for (int i = 0; i < SumBuffers::kStages; ++i) load(load_shared(buffers.from(loaded_entry)));
  std::uint32_t stage = stages;
#pragma unroll 1
  for (int strip = 0; strip < strips.count; ++strip) {
    const bool stores = has_columns(strip);
    __syncwarp();  // all have read those of the strip before
    store_shared(buffers.to(lane), to_at<T>(window, strips, strip));
    __syncwarp();
#pragma unroll 1
    for (int first = 0; first < window.count; first += kBatch) {
      async_wait<SumBuffers::kStages - 1>();
      uint4 runs[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) runs[i] = load_shared(stage + i * SumBuffers::kEntryBytes);
      const uint4 weight = load_shared(buffers.weight(first));
      const uint4 to_low = load_shared(buffers.to(first));
      const uint4 to_high = load_shared(buffers.to(first + 2));
      const uint4 from = load_shared(buffers.from(loaded_entry));
      const std::uint32_t weights[kBatch] = {weight.x, weight.y, weight.z, weight.w};
      const std::uint64_t to[kBatch] = {
          to_low.x | std::uint64_t{to_low.y} << 32, to_low.z | std::uint64_t{to_low.w} << 32,
          to_high.x | std::uint64_t{to_high.y} << 32, to_high.z | std::uint64_t{to_high.w} << 32};
      // Entries past the last one are added too: they come after the last sum.
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        add_run<T>(sum, runs[i], __uint_as_float(weights[i]));
        const bool is_last = (window.last >> (first + i) & 1U) != 0;
        store_global_if(is_last && stores, to[i] + lane * 16, round_run<T>(sum));
#pragma unroll
        for (float& s : sum) s = is_last ? 0 : s;
      }
      load(from);
      advance(stage);
    }
    if (strip + 1 == strips.count) return;
#pragma unroll
    for (float& s : sum) s = 0;
  }
}

/// The same where sums go to multiples of 2 bytes only, as rows of y may begin: rare, so it is short and not fast.
template <typename T>
__device__ __forceinline__ void add_window_to_unaligned(const Window& window, const Strips& strips,
                                                        float (&sum)[kRunOf16Bits]) {
#pragma unroll 1
  for (int strip = 0; strip < strips.count; ++strip) {
    const bool has_columns = lane_id() * kRunOf16Bits < strips.width(strip);
    const std::uint32_t from = from_at(window, strips, strip);
    const unsigned long long to = to_at<T>(window, strips, strip);
#pragma unroll 1
    for (int entry = 0; entry < window.count; ++entry) {
      const std::uint64_t row = __shfl_sync(kAllLanes, from, entry);
      const float weight = __shfl_sync(kAllLanes, window.weight, entry);
      auto* const target = reinterpret_cast<T*>(__shfl_sync(kAllLanes, to, entry));
      if (!has_columns) continue;
      add_run<T>(sum, __ldcg(reinterpret_cast<const uint4*>(window.from + (row + lane_id()) * 16)), weight);
      if ((window.last >> entry & 1U) == 0) continue;
      store_run_unaligned(target + lane_id() * kRunOf16Bits, round_run<T>(sum));
#pragma unroll
      for (float& s : sum) s = 0;
    }
  }
}

/// Sums `total` entries of runs over a panel; the lane's run has `length` of them.
/// `window_at(begin)` makes the window of entries from `begin` on, runs that fit not cut. Sums go to multiples of 16
/// bytes if `is_aligned`, else of 2.
template <typename T, typename WindowAt>
__device__ __forceinline__ void add_entries(const SumBuffers& buffers, const Strips& strips,
                                            int total, int length, bool is_aligned,
                                            WindowAt window_at) {
  // A run that is cut carries its sum from window to window, of one strip.
  const int at_once = __any_sync(kAllLanes, length > kLanes) != 0 ? 1 : strips.count;
#pragma unroll 1
  for (int first = 0; first < strips.count; first += at_once) {
    const Strips now{strips.column(first), strips.hidden, at_once};
    float sum[kRunOf16Bits] = {};
#pragma unroll 1
    for (int begin = 0; begin < total;) {
      const Window window = window_at(begin);
      if (is_aligned) {
        add_window<T>(buffers, window, now, sum);
      } else {
        add_window_to_unaligned<T>(window, now, sum);
      }
      begin += window.count;
      // Of runs that end with the window; those past its last entry were added too.
      if ((window.last >> (window.count - 1) & 1U) == 0) continue;
#pragma unroll
      for (float& s : sum) s = 0;
    }
  }
}

}  // namespace comet::cuda::overlap
