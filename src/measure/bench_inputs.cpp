// SPDX-License-Identifier: Apache-2.0
#include "measure/bench_inputs.hpp"

#include <algorithm>

#include "base/int_math.hpp"

namespace comet {
namespace {

constexpr std::int64_t kMostCopies = 16;

std::int64_t bytes_of(const ConstMatrixView& matrix) {
  return matrix.rows * matrix.cols * static_cast<std::int64_t>(size_of(matrix.dtype));
}

}  // namespace

int num_input_copies(std::int64_t copy_bytes, std::int64_t l2_bytes) {
  if (l2_bytes <= 0 || copy_bytes <= 0) return 1;
  return static_cast<int>(std::min(kMostCopies, 2 * l2_bytes / copy_bytes + 1));
}

BenchInputs::BenchInputs(const BenchData& data, World& world, std::int64_t l2_bytes)
    : memory_(world) {
  const MoeDesc& desc = data.desc();
  const int rank = world.rank();
  const BenchWeights& weights = data.weights();
  for (const void* matrices : {weights.gate(), weights.up(), weights.down()}) {
    memory_.place_shared(matrices, weights.matrices_bytes());
  }
  const MoeWeights on_host = data.weights_of(rank);
  weights_ = memory_.locate(on_host, 0);  // strided views have no lists
  const std::int64_t entries = data.tokens_of(rank) * desc.topk;
  const std::int64_t copy_bytes =
      2 * bytes_of(data.x_of(rank)) +
      entries * static_cast<std::int64_t>(sizeof(std::int32_t) + sizeof(float));
  const int copies = num_input_copies(copy_bytes, l2_bytes);
  for (int i = 0; i < copies; ++i) copies_.push_back(make_copy(data, rank));
}

BenchInputs::Copy BenchInputs::make_copy(const BenchData& data, int rank) {
  Copy copy{.x = data.x_of(rank), .routing = data.routing_of(rank), .y = {}};
  const std::int64_t entries = copy.routing.tokens * data.desc().topk;
  const std::int64_t bytes = bytes_of(copy.x);
  copy.x.data = memory_.place(copy.x.data, bytes);
  copy.routing.ids =
      memory_.place(copy.routing.ids, entries * static_cast<std::int64_t>(sizeof(std::int32_t)));
  copy.routing.weights =
      memory_.place(copy.routing.weights, entries * static_cast<std::int64_t>(sizeof(float)));
  copy.y = {memory_.reserve(bytes), copy.x.rows, copy.x.cols, copy.x.row_stride, copy.x.dtype};
  return copy;
}

std::span<const std::byte> BenchInputs::read_y(std::size_t index) {
  const MatrixView& y = copies_[index].y;
  const auto bytes = static_cast<std::size_t>(y.rows * y.cols) * size_of(y.dtype);
  if (memory_.is_host()) return {static_cast<const std::byte*>(y.data), bytes};
  host_y_.resize(bytes);
  memory_.download(host_y_.data(), y.data, static_cast<std::int64_t>(bytes));
  return host_y_;
}

}  // namespace comet
