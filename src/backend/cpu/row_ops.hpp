// SPDX-License-Identifier: Apache-2.0
// What communication does with rows on a CPU: the sums of combine and the epilogue of the first
// GEMM. Each element is computed by the same sequence of float32 operations whatever the panel, so
// results do not depend on how columns are cut (the build forbids contraction to fused operations).
#pragma once

#include <cstdint>
#include <span>

#include "comet/dtype.hpp"
#include "plan/row_order.hpp"

namespace comet {

/// partial[0..columns) = sum over `rows`, in their order, of (weight of the row or 1) times
/// out[row][column_begin + c], rounded once to T. `out` is float32 with `stride` elements a row;
/// `row_weights` [row slots] may be null for 1.
template <typename T>
void sum_rows(std::span<const NeededRow> rows, const float* out, std::int64_t stride,
              std::int64_t column_begin, std::int64_t columns, const float* row_weights,
              T* partial) noexcept;

/// y[0..columns) = sum in float32 over `sources`, in their order, of
/// combine[source * source_stride + c], rounded once to T; zeros without sources.
template <typename T>
void sum_partials(std::span<const std::int32_t> sources, const T* combine,
                  std::int64_t source_stride, std::int64_t columns, T* y) noexcept;

/// acts[c] = first[c] * second[c] * weight, rounded to T; `second` may be null for 1.
template <typename T>
void finish_activation(const float* first, const float* second, float weight, std::int64_t columns,
                       T* acts) noexcept;

}  // namespace comet
