// SPDX-License-Identifier: Apache-2.0
// Whole experts' weights as the slices that each rank of a layer reads, without a copy.
#pragma once

#include <vector>

#include "arrays.hpp"
#include "comet/desc.hpp"
#include "comet/weights.hpp"

namespace comet::python {

/// What frameworks hand over: one array of three axes, or a matrix per expert. Keeps the arrays.
class WeightArrays {
 public:
  /// `arrays` is one array [E, rows, cols], or [E] arrays [rows, cols], all of one type and shape.
  WeightArrays(const nb::list& arrays, const char* name);

  std::int64_t experts() const noexcept { return experts_; }
  std::int64_t rows() const noexcept { return rows_; }
  std::int64_t cols() const noexcept { return cols_; }
  std::int64_t row_stride() const noexcept { return row_stride_; }
  DType dtype() const noexcept { return dtype_; }
  /// Throws Error(invalid_argument) unless all lie there.
  void check_place(const Place& place) const;
  /// First element of an expert's matrix.
  const void* expert(std::int64_t expert) const noexcept;
  /// Whether any expert has bytes of `other`.
  bool overlap(const MemoryRange& other) const;

 private:
  MemoryRange range_of_expert(std::int64_t expert) const;

  std::vector<Array> arrays_;
  std::int64_t experts_ = 0;
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
  std::int64_t expert_stride_ = 0;
  std::int64_t row_stride_ = 0;
  DType dtype_ = DType::f32;
  MemoryRange hull_;  // of all experts, with what lies between them
};

/// One rank's views of whole experts, or of those and the slices that it has (`is_part`). The
/// arrays must outlive it.
class RankWeights {
 public:
  RankWeights(const WeightArrays& w13, const WeightArrays& w2, GateLayout layout,
              const MoeDesc& desc, const ParallelDesc& parallel, int rank, bool is_part);
  RankWeights(RankWeights&&) = default;

  /// Valid as long as this object.
  MoeWeights weights() const noexcept { return weights_; }

 private:
  std::vector<const void*> first_;   // [local experts]
  std::vector<const void*> second_;  // [local experts]
  MoeWeights weights_;
};

}  // namespace comet::python
