// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/stage_ops.hpp"

#include <cstring>

#include "backend/cpu/row_ops.hpp"
#include "layout/column_range.hpp"
#include "layout/panels.hpp"

namespace comet {
namespace {

constexpr std::int64_t kLineBytes = 64;

void prefetch_read(const void* data, std::int64_t bytes) {
  for (std::int64_t at = 0; at < bytes; at += kLineBytes) {
    __builtin_prefetch(static_cast<const char*>(data) + at, 0);
  }
}

void prefetch_write(const void* data, std::int64_t bytes) {
  for (std::int64_t at = 0; at < bytes; at += kLineBytes) {
    __builtin_prefetch(static_cast<const char*>(data) + at, 1);
  }
}

}  // namespace

void StageOps::ColumnProducts::run(bool is_tail, const void* a, const void* b, float* c,
                                   GemmThread& thread) const {
  (is_tail ? tail : whole).front().run(a, b, c, thread);
}

StageOps::ColumnProducts StageOps::make_products(std::int64_t columns, std::int64_t n,
                                                 std::int64_t k, std::int64_t ldb, std::int64_t ldc,
                                                 std::optional<Activation> activation) const {
  ColumnProducts products;
  const auto make = [&](std::int64_t width) {
    return TileGemm({.dtype = desc_.dtype,
                     .m = dims_.block_m,
                     .n = width,
                     .k = k,
                     .ldb = ldb,
                     .ldc = ldc,
                     .activation = activation});
  };
  if (columns >= n) products.whole.push_back(make(n));
  if (columns % n != 0) products.tail.push_back(make(columns % n));
  return products;
}

StageOps::StageOps(const MoeDesc& desc, const LayerDims& dims, const MoeWeights& weights)
    : desc_(desc),
      dims_(dims),
      weights_(weights),
      column_tiles_(ceil_div(dims.inter_local, dims.block_n)) {
  if (dims.num_local == 0) return;  // this rank computes nothing
  std::optional<Activation> up_activation = desc.activation;
  if (desc.gated) {
    gate_ = make_products(dims.inter_local, dims.block_n, dims.hidden, weights.gate.row_stride,
                          dims.block_n, desc.activation);
    up_activation.reset();
  }
  up_ = make_products(dims.inter_local, dims.block_n, dims.hidden, weights.up.row_stride,
                      dims.block_n, up_activation);
  down_ = make_products(dims.hidden, dims.panel_n, dims.inter_local, weights.down.row_stride,
                        dims.panel_n, {});
}

void StageOps::prepare(const EngineCall& call) {
  call_ = &call;
  const std::int64_t slots = call.plan->num_tiles() * dims_.block_m;
  rows_.ensure(slots * dims_.row_bytes());
  row_weights_.ensure(slots * 4);
  acts_.ensure(slots * dims_.inter_local * dims_.element_bytes);
  out_.ensure(slots * round_up(dims_.hidden, dims_.panel_n) * 4);
}

std::int64_t StageOps::local_bytes() const noexcept {
  return rows_.bytes() + row_weights_.bytes() + acts_.bytes() + out_.bytes();
}

const float* StageOps::weights_of(std::int32_t rank, std::int32_t token) const {
  const std::byte* weights = call_->peers[rank] + call_->layout.weights[call_->parity()];
  return reinterpret_cast<const float*>(weights) + std::int64_t{token} * dims_.topk;
}

void StageOps::copy_rows(const PullPiece& piece, CallState& state) {
  const Plan& plan = *call_->plan;
  const std::int32_t source = plan.blocks[piece.block].source;
  const std::byte* x = call_->peers[source] + call_->layout.x;
  auto* row_weights = reinterpret_cast<float*>(row_weights_.data());
  for (std::int32_t i = piece.needed_begin; i < piece.needed_end; ++i) {
    const std::int32_t token = plan.needed[i].token;
    const float* weights = weights_of(source, token);
    for (const NeededRow& row : plan.rows_of(i)) {
      std::memcpy(rows_.data() + row.row * dims_.row_bytes(), x + token * dims_.row_bytes(),
                  static_cast<std::size_t>(dims_.row_bytes()));
      row_weights[row.row] = weights[row.choice];
    }
  }
  for (std::int32_t i = piece.needed_begin; i < piece.needed_end; ++i) {
    for (const NeededRow& row : plan.rows_of(i)) state.rows_arrived(row.row / dims_.block_m, 1);
  }
}

void StageOps::first_gemm(std::int64_t tile, std::int64_t column_tile, OpScratch& scratch) {
  const std::int64_t size = dims_.block_m * dims_.block_n;
  if (static_cast<std::int64_t>(scratch.first.size()) < size) {
    scratch.first.resize(size);
    scratch.second.resize(size);
  }
  const ColumnRange columns = column_part(dims_.inter_local, dims_.block_n, column_tile);
  const bool is_tail = columns.end - columns.begin < dims_.block_n;
  const std::int32_t expert = call_->plan->tiles[tile].expert;
  const std::byte* a = rows_.data() + tile * dims_.block_m * dims_.row_bytes();
  const auto b = [&](const ExpertMatrices& matrices) {
    return static_cast<const std::byte*>(matrices.expert(expert, desc_.dtype)) +
           columns.begin * matrices.row_stride * dims_.element_bytes;
  };
  if (desc_.gated) {
    gate_.run(is_tail, a, b(weights_.gate), scratch.first.data(), scratch.gemm);
    up_.run(is_tail, a, b(weights_.up), scratch.second.data(), scratch.gemm);
  } else {
    up_.run(is_tail, a, b(weights_.up), scratch.first.data(), scratch.gemm);
  }
  const std::int64_t width = columns.end - columns.begin;
  if (desc_.dtype == DType::f32) {
    finish_first<float>(tile, columns.begin, width, scratch);
  } else {
    finish_first<bf16>(tile, columns.begin, width, scratch);
  }
}

template <typename T>
void StageOps::finish_first(std::int64_t tile, std::int64_t column, std::int64_t width,
                            const OpScratch& scratch) {
  const auto* row_weights = reinterpret_cast<const float*>(row_weights_.data());
  auto* acts = reinterpret_cast<T*>(acts_.data());
  const std::int64_t first_row = tile * dims_.block_m;
  for (std::int32_t r = 0; r < call_->plan->tiles[tile].rows; ++r) {
    const std::int64_t row = first_row + r;
    const float weight =
        desc_.weight_position == WeightPosition::before_down ? row_weights[row] : 1.0F;
    finish_activation<T>(scratch.first.data() + r * dims_.block_n,
                         desc_.gated ? scratch.second.data() + r * dims_.block_n : nullptr, weight,
                         width, acts + row * dims_.inter_local + column);
  }
}

std::int64_t StageOps::panel_columns(std::int64_t panel) const {
  const ColumnRange range = cut_panels(dims_, call_->config).columns(panel);
  return range.end - range.begin;
}

void StageOps::second_gemm(const TilePanel& piece, OpScratch& scratch) {
  const ColumnRange panel = cut_panels(dims_, call_->config).columns(piece.panel);
  const std::int64_t first_row = piece.tile * dims_.block_m;
  const std::byte* a = acts_.data() + first_row * dims_.inter_local * dims_.element_bytes;
  const auto* b = static_cast<const std::byte*>(
      weights_.down.expert(call_->plan->tiles[piece.tile].expert, desc_.dtype));
  for (std::int64_t column = panel.begin; column < panel.end; column += dims_.panel_n) {
    down_.run(column + dims_.panel_n > dims_.hidden, a,
              b + column * weights_.down.row_stride * dims_.element_bytes,
              out_tiles(column) + first_row * dims_.panel_n, scratch.gemm);
  }
}

float* StageOps::out_tiles(std::int64_t column) const {
  const std::int64_t slots = call_->plan->num_tiles() * dims_.block_m;
  return reinterpret_cast<float*>(out_.data()) + column * slots;
}

void StageOps::push_partials(const PushPiece& piece) {
  if (desc_.dtype == DType::f32) return push_typed<float>(piece);
  push_typed<bf16>(piece);
}

template <typename T>
void StageOps::push_typed(const PushPiece& piece) {
  const ColumnRange panel = cut_panels(dims_, call_->config).columns(piece.panel);
  for (std::int64_t column = panel.begin; column < panel.end; column += dims_.panel_n) {
    push_columns<T>(call_->plan->blocks[piece.block], column,
                    min_of(dims_.panel_n, panel.end - column));
  }
}

template <typename T>
void StageOps::push_columns(const BlockTransfer& block, std::int64_t column, std::int64_t width) {
  const Plan& plan = *call_->plan;
  const float* out = out_tiles(column);
  const float* row_weights = desc_.weight_position == WeightPosition::after_down
                                 ? reinterpret_cast<const float*>(row_weights_.data())
                                 : nullptr;
  T* combine = reinterpret_cast<T*>(call_->peers[block.source] + call_->layout.combine) +
               combine_index(dims_, column, width, dims_.rank, 0);
  const auto partial = [&](std::int32_t i) { return combine + plan.needed[i].token * width; };
  const auto prefetch = [&](std::int32_t i) {
    for (const NeededRow& row : plan.rows_of(i)) {
      prefetch_read(out + row.row * dims_.panel_n, width * 4);
    }
    prefetch_write(partial(i), width * dims_.element_bytes);
  };
  // Rows come from all over the memory; fetched some tokens ahead, they are there when summed.
  constexpr std::int32_t kAhead = 4;
  for (std::int32_t i = block.needed_begin; i < block.needed_end + kAhead; ++i) {
    if (i < block.needed_end) prefetch(i);
    if (i - kAhead < block.needed_begin) continue;
    sum_rows<T>(plan.rows_of(i - kAhead), out, dims_.panel_n, 0, width, row_weights,
                partial(i - kAhead));
  }
}

void StageOps::sum_home(const HomePiece& piece) {
  if (desc_.dtype == DType::f32) return sum_home_typed<float>(piece);
  sum_home_typed<bf16>(piece);
}

template <typename T>
void StageOps::sum_home_typed(const HomePiece& piece) {
  const ColumnRange panel = cut_panels(dims_, call_->config).columns(piece.panel);
  for (std::int64_t column = panel.begin; column < panel.end; column += dims_.panel_n) {
    sum_home_columns<T>(piece.block, column, min_of(dims_.panel_n, panel.end - column));
  }
}

template <typename T>
void StageOps::sum_home_columns(std::int32_t block, std::int64_t column, std::int64_t width) {
  const Plan& plan = *call_->plan;
  const T* combine = reinterpret_cast<const T*>(call_->peers[dims_.rank] + call_->layout.combine) +
                     combine_index(dims_, column, width, 0, 0);
  T* y = static_cast<T*>(call_->y.data) + column;
  const TokenRange range = block_tokens(call_->y.rows, block);
  for (std::int32_t token = range.begin; token < range.end; ++token) {
    const std::int32_t begin = plan.token_sources_begin[token];
    const std::int32_t end = plan.token_sources_begin[token + 1];
    sum_partials<T>({plan.token_sources.data() + begin, plan.token_sources.data() + end},
                    combine + token * width, dims_.max_tokens * width, width,
                    y + token * call_->y.row_stride);
  }
}

std::int64_t StageOps::pull_bytes(const PullPiece& piece) const {
  return (piece.needed_end - piece.needed_begin) * (dims_.row_bytes() + dims_.weight_bytes());
}

std::int64_t StageOps::push_bytes(const PushPiece& piece) const {
  const BlockTransfer& block = call_->plan->blocks[piece.block];
  return (block.needed_end - block.needed_begin) * panel_columns(piece.panel) * dims_.element_bytes;
}

}  // namespace comet
