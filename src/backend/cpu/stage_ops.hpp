// SPDX-License-Identifier: Apache-2.0
// StageOps: the data movement and arithmetic of one piece of work. It knows no order and no roles;
// CallState and CpuEngine say what is done when.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "backend/cpu/call_state.hpp"
#include "backend/cpu/engine_call.hpp"
#include "backend/cpu/tile_gemm.hpp"
#include "base/lazy_buffer.hpp"
#include "comet/weights.hpp"

namespace comet {

/// One worker's scratch.
struct OpScratch {
  GemmThread gemm;
  std::vector<float> first;   ///< [block_m, block_n] activated gate, or the only product
  std::vector<float> second;  ///< [block_m, block_n] up
};

class StageOps {
 public:
  /// Builds the tile products; `weights` are borrowed for the object's life.
  StageOps(const MoeDesc& desc, const LayerDims& dims, const MoeWeights& weights);

  /// Makes room for the call's rows. Not while workers run.
  void prepare(const EngineCall& call);

  std::int64_t column_tiles() const noexcept { return column_tiles_; }
  std::int64_t local_bytes() const noexcept;

  /// Copies the piece's tokens from their home's x to each of their rows, once read per token, and
  /// tells `state` about the rows.
  void copy_rows(const PullPiece& piece, CallState& state);
  /// One (tile, column tile) of the first GEMM with activation, to acts.
  void first_gemm(std::int64_t tile, std::int64_t column_tile, OpScratch& scratch);
  /// One (tile, panel) of the second GEMM, to out.
  void second_gemm(const TilePanel& piece, OpScratch& scratch);
  /// Sums the partials of a block's tokens and writes them to their home's combine buffer.
  void push_partials(const PushPiece& piece);
  /// Sums the partials of all sources into y.
  void sum_home(const HomePiece& piece);

  /// Bytes that a pull or push moves over the link.
  std::int64_t pull_bytes(const PullPiece& piece) const;
  std::int64_t push_bytes(const PushPiece& piece) const;

 private:
  /// The product of whole column tiles, and that of the last, narrower one if there is one.
  struct ColumnProducts {
    std::vector<TileGemm> whole, tail;  ///< Zero or one each.
    void run(bool is_tail, const void* a, const void* b, float* c, GemmThread& thread) const;
  };
  ColumnProducts make_products(std::int64_t columns, std::int64_t n, std::int64_t k,
                               std::int64_t ldb, std::int64_t ldc,
                               std::optional<Activation> activation) const;
  template <typename T>
  void finish_first(std::int64_t tile, std::int64_t column, std::int64_t width,
                    const OpScratch& scratch);
  template <typename T>
  void push_typed(const PushPiece& piece);
  template <typename T>
  void push_columns(const BlockTransfer& block, std::int64_t column, std::int64_t width);
  template <typename T>
  void sum_home_typed(const HomePiece& piece);
  template <typename T>
  void sum_home_columns(std::int32_t block, std::int64_t column, std::int64_t width);
  std::int64_t panel_columns(std::int64_t panel) const;
  /// Start of out_'s columns [column, column + panel_n) of all row slots; `column` is a multiple.
  float* out_tiles(std::int64_t column) const;
  const float* weights_of(std::int32_t rank, std::int32_t token) const;

  const MoeDesc desc_;
  const LayerDims dims_;
  const MoeWeights weights_;
  std::int64_t column_tiles_ = 0;
  ColumnProducts gate_, up_, down_;
  const EngineCall* call_ = nullptr;

  LazyBuffer rows_;         ///< element [row slots, H]
  LazyBuffer row_weights_;  ///< f32 [row slots]
  LazyBuffer acts_;         ///< element [row slots, I/TP]
  LazyBuffer out_;          ///< f32 [H / panel_n, row slots, panel_n]: a push reads runs of rows
};

}  // namespace comet
