// SPDX-License-Identifier: Apache-2.0
#include "expert_weights.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <functional>

#include "comet/error.hpp"

namespace comet::python {

WeightArrays::WeightArrays(const nb::list& arrays, const char* name) {
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorCode::invalid_argument, fmt::format("[weights] {}: {}", name, what));
  };
  for (const nb::handle array : arrays) arrays_.emplace_back(array, name, Use::keep);
  if (arrays_.empty()) refuse("no matrix, one per expert is needed");
  const Array& first = arrays_.front();
  const bool is_one = arrays_.size() == 1 && first.axes() == 3;
  const std::size_t axes = is_one ? 3 : 2;
  for (const Array& array : arrays_) check_shape(array, axes);
  experts_ = is_one ? first.shape(0) : static_cast<std::int64_t>(arrays_.size());
  rows_ = first.shape(axes - 2);
  cols_ = first.shape(axes - 1);
  row_stride_ = first.stride(axes - 2);
  if (is_one) expert_stride_ = first.stride(0);
  dtype_ = dtype_of(first);
  if (row_stride_ < cols_) {
    refuse(fmt::format("rows {} elements apart, at least {} are needed", row_stride_, cols_));
  }
  for (std::size_t e = 1; e < arrays_.size(); ++e) {
    const Array& array = arrays_[e];
    if (array.shape(0) != rows_ || array.shape(1) != cols_ || array.stride(0) != row_stride_ ||
        dtype_of(array) != dtype_) {
      refuse(fmt::format("expert {} differs from expert 0 in shape, strides or type", e));
    }
  }
  for (std::int64_t e = 0; e < experts_; ++e) {
    const MemoryRange range = range_of_expert(e);
    hull_ = e == 0 ? range
                   : MemoryRange{std::min(hull_.begin, range.begin, std::less<>()),
                                 std::max(hull_.end, range.end, std::less<>())};
  }
}

MemoryRange WeightArrays::range_of_expert(std::int64_t expert) const {
  return range_of({this->expert(expert), rows_, cols_, row_stride_, dtype_});
}

bool WeightArrays::overlap(const MemoryRange& other) const {
  if (!do_overlap(hull_, other)) return false;  // as in nearly all calls
  for (std::int64_t e = 0; e < experts_; ++e) {
    if (do_overlap(range_of_expert(e), other)) return true;
  }
  return false;
}

void WeightArrays::check_place(const Place& place) const {
  for (const Array& array : arrays_) python::check_place(array, place);
}

const void* WeightArrays::expert(std::int64_t expert) const noexcept {
  if (arrays_.size() > 1 || arrays_.front().axes() == 2) {
    return arrays_[static_cast<std::size_t>(expert)].data();
  }
  return static_cast<const std::byte*>(arrays_.front().data()) +
         expert * expert_stride_ * static_cast<std::int64_t>(size_of(dtype_));
}

RankWeights::RankWeights(const WeightArrays& w13, const WeightArrays& w2, GateLayout layout,
                         const MoeDesc& desc, const ParallelDesc& parallel, int rank,
                         bool is_part) {
  const std::vector<std::int32_t> global = local_experts(desc, parallel, rank / parallel.tp);
  for (std::size_t local = 0; local < global.size(); ++local) {
    const std::int64_t expert = is_part ? static_cast<std::int64_t>(local) : global[local];
    first_.push_back(w13.expert(expert));
    second_.push_back(w2.expert(expert));
  }
  const std::int64_t inter_local = desc.intermediate / parallel.tp;
  // Rows of gate, or of up, in a matrix, and the first one of the rank's slice.
  const std::int64_t inter_there = is_part ? inter_local : desc.intermediate;
  const std::int64_t slice = is_part ? 0 : rank % parallel.tp * inter_local;
  const std::int64_t stride = w13.row_stride();
  const auto part = [&](std::int64_t first_row, std::int64_t rows_apart) {
    return ExpertMatrices{.row_stride = rows_apart * stride,
                          .list = first_.data(),
                          .offset = (first_row + slice * rows_apart) * stride};
  };
  switch (layout) {
    case GateLayout::gate_up:
      weights_.gate = part(0, 1);
      weights_.up = part(inter_there, 1);
      break;
    case GateLayout::up_gate:
      weights_.up = part(0, 1);
      weights_.gate = part(inter_there, 1);
      break;
    case GateLayout::interleaved:
      weights_.gate = part(0, 2);
      weights_.up = part(1, 2);
      break;
    case GateLayout::none:
      weights_.up = part(0, 1);
      break;
  }
  weights_.down = {.row_stride = w2.row_stride(), .list = second_.data(), .offset = slice};
}

}  // namespace comet::python
