// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/row_ops.hpp"

#include <algorithm>

namespace comet {
namespace {

constexpr std::int64_t kStrip = 256;  // columns summed at a time: the accumulator stays in L1

template <typename T>
void store_strip(const float* sum, std::int64_t columns, T* to) noexcept {
  for (std::int64_t c = 0; c < columns; ++c) to[c] = from_float<T>(sum[c]);
}

}  // namespace

template <typename T>
void sum_rows(std::span<const NeededRow> rows, const float* out, std::int64_t stride,
              std::int64_t column_begin, std::int64_t columns, const float* row_weights,
              T* partial) noexcept {
  float sum[kStrip];
  for (std::int64_t begin = 0; begin < columns; begin += kStrip) {
    const std::int64_t width = std::min(kStrip, columns - begin);
    std::fill_n(sum, width, 0.0F);
    for (const NeededRow& needed : rows) {
      const float* row = out + needed.row * stride + column_begin + begin;
      const float weight = row_weights != nullptr ? row_weights[needed.row] : 1.0F;
      for (std::int64_t c = 0; c < width; ++c) sum[c] += weight * row[c];
    }
    store_strip(sum, width, partial + begin);
  }
}

template <typename T>
void sum_partials(std::span<const std::int32_t> sources, const T* combine,
                  std::int64_t source_stride, std::int64_t columns, T* y) noexcept {
  float sum[kStrip];
  for (std::int64_t begin = 0; begin < columns; begin += kStrip) {
    const std::int64_t width = std::min(kStrip, columns - begin);
    std::fill_n(sum, width, 0.0F);
    for (const std::int32_t source : sources) {
      const T* partial = combine + source * source_stride + begin;
      for (std::int64_t c = 0; c < width; ++c) sum[c] += to_float(partial[c]);
    }
    store_strip(sum, width, y + begin);
  }
}

template <typename T>
void finish_activation(const float* first, const float* second, float weight, std::int64_t columns,
                       T* acts) noexcept {
  if (second == nullptr) {
    for (std::int64_t c = 0; c < columns; ++c) acts[c] = from_float<T>(first[c] * weight);
    return;
  }
  for (std::int64_t c = 0; c < columns; ++c) acts[c] = from_float<T>(first[c] * second[c] * weight);
}

#define COMET_INSTANTIATE_ROW_OPS(T)                                                              \
  template void sum_rows<T>(std::span<const NeededRow>, const float*, std::int64_t, std::int64_t, \
                            std::int64_t, const float*, T*) noexcept;                             \
  template void sum_partials<T>(std::span<const std::int32_t>, const T*, std::int64_t,            \
                                std::int64_t, T*) noexcept;                                       \
  template void finish_activation<T>(const float*, const float*, float, std::int64_t, T*) noexcept

COMET_INSTANTIATE_ROW_OPS(float);
COMET_INSTANTIATE_ROW_OPS(bf16);

}  // namespace comet
