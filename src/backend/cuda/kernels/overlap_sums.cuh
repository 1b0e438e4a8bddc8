// SPDX-License-Identifier: Apache-2.0
// Sums of runs of entries, each run to a token, by a warp: what push and home sum have in common. An
// entry is 16 bytes a lane. Entries come through shared memory by bulk copies: beside products each
// load takes microseconds, and only many on their way at once make it fast. Kept in registers they
// would be a quarter of these.
#pragma once

#include "backend/cuda/device/element.cuh"
#include "backend/cuda/device/ptx.cuh"

namespace comet::cuda::overlap {

constexpr int kLanes = 32;
constexpr unsigned kAllLanes = 0xffffffffU;

/// Columns that a warp has at a time: 16 bytes a lane.
constexpr std::int64_t kStrip = kLanes * kRunOf16Bits;

/// What a warp sums from, in shared memory.
class SumBuffers {
 public:
  static constexpr int kStages = 4;
  static constexpr int kBatch = 4;  ///< Entries of a stage.
  static constexpr int kEntryBytes = kLanes * 16;
  static constexpr int kBytes = kStages * kBatch * kEntryBytes;

  /// `buffers` are kBytes aligned to 16, `barriers` kStages initialised with one arrival.
  __device__ __forceinline__ SumBuffers(std::uint32_t buffers, std::uint32_t barriers)
      : buffers_(buffers), barriers_(barriers) {}

  /// Where entry `index` of the stage is. All lanes are done with what was there.
  __device__ __forceinline__ std::uint32_t entry(int stage, int index) const {
    return buffers_ + (stage * kBatch + index) * kEntryBytes;
  }
  __device__ __forceinline__ std::uint32_t barrier(int stage) const { return barriers_ + stage * 8; }

  /// Waits for the stage's entries.
  __device__ __forceinline__ void wait(int stage) {
    mbarrier_wait(barrier(stage), parities_ >> stage & 1U);
    parities_ ^= 1U << stage;
  }

 private:
  std::uint32_t buffers_;
  std::uint32_t barriers_;
  std::uint32_t parities_ = 0;  // a bit each, of what comes next
};

/// 32 entries, a lane each.
struct Window {
  std::int32_t entry;  ///< Where: times a stride.
  float weight;
  std::int32_t of;  ///< The unit's token that it belongs to.
  unsigned last;    ///< Bit j: entry j is its token's last.
  int count;
};

/// Window `base` of runs of which the lane's token has [start, end), in the order of lanes.
/// `find(of, offset)` gives the {entry, weight} of entry `offset` of token `of`; `of` may differ by
/// lane.
template <typename Find>
__device__ __forceinline__ Window make_window(int base, int total, int num_tokens, int start, int end,
                                              Find find) {
  const int flat = base + static_cast<int>(threadIdx.x) % kLanes;
  Window window;
  window.of = 0;
  for (int token = 0; token < num_tokens - 1; ++token) {
    window.of += __shfl_sync(kAllLanes, end, token) <= flat ? 1 : 0;
  }
  const int my_start = __shfl_sync(kAllLanes, start, window.of);
  const int my_end = __shfl_sync(kAllLanes, end, window.of);
  window.last = __ballot_sync(kAllLanes, flat + 1 == my_end);
  window.count = total - base < kLanes ? total - base : kLanes;
  window.entry = 0;
  window.weight = 0;
  find(window, flat < total, flat - my_start);
  return window;
}

/// Where strip `strip` of an entry begins, and how many columns it has.
template <typename T>
struct EntryStrip {
  const T* begin;
  std::int32_t width;
};

/// Adds the window's entries in order, strip after strip of `num_strips`, to `sum`, and calls
/// `finish(token, strip)` after each token's last; the sum then begins anew. `find(entry, strip)` is
/// an EntryStrip. Entries must have been acquired, and fenced for the async proxy by all lanes.
template <typename T, typename Find, typename Finish>
__device__ __forceinline__ void add_window(SumBuffers& buffers, const Window& window, int num_strips,
                                           float (&sum)[kRunOf16Bits], Find find, Finish finish) {
  constexpr int kBatch = SumBuffers::kBatch;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  int loaded_strip = 0;
  int loaded_entry = 0;
  int load_stage = 0;
  const auto load = [&] {
    if (loaded_strip == num_strips) return;
    const int left = window.count - loaded_entry;
    const int count = left < kBatch ? left : kBatch;
    const std::int32_t entry = __shfl_sync(kAllLanes, window.entry, loaded_entry + lane);
    if (lane < count) {
      const EntryStrip<T> strip = find(entry, loaded_strip);
      const auto bytes = static_cast<std::uint32_t>(strip.width * static_cast<int>(sizeof(T)));
      const std::uint32_t barrier = buffers.barrier(load_stage);
      if (lane == 0) mbarrier_expect(barrier, bytes * static_cast<std::uint32_t>(count));
      bulk_load(buffers.entry(load_stage, lane), strip.begin, bytes, barrier);
    }
    load_stage = (load_stage + 1) % SumBuffers::kStages;
    loaded_entry += kBatch;
    if (loaded_entry < window.count) return;
    loaded_entry = 0;
    ++loaded_strip;
  };
#pragma unroll 1
  for (int i = 0; i < SumBuffers::kStages; ++i) load();
  int stage = 0;
#pragma unroll 1
  for (int strip = 0; strip < num_strips; ++strip) {
#pragma unroll 1
    for (int first = 0; first < window.count; first += kBatch) {
      buffers.wait(stage);
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const float weight = __shfl_sync(kAllLanes, window.weight, first + i);
        const std::int32_t of = __shfl_sync(kAllLanes, window.of, first + i);
        if (first + i >= window.count) continue;
        add_run<T>(sum, load_shared(buffers.entry(stage, i) + lane * 16), weight);
        if ((window.last >> (first + i) & 1U) == 0) continue;
        finish(of, strip);
#pragma unroll
        for (float& s : sum) s = 0;
      }
      __syncwarp();
      load();
      stage = (stage + 1) % SumBuffers::kStages;
    }
  }
}

}  // namespace comet::cuda::overlap
