// SPDX-License-Identifier: Apache-2.0
// TileGemm: one tile-shaped matrix product by oneDNN. Library products of other shapes give other
// bits for the same row, so every schedule calls the same few shapes and pads tails to the tile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "comet/desc.hpp"

namespace comet {

/// C [m, n] = f(A [m, k] * B [n, k]^T), float32 accumulation and result. Strides in elements.
struct TileGemmShape {
  DType dtype = DType::f32;  ///< Of A and B.
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t ldb = 0;  ///< lda is k.
  std::int64_t ldc = 0;
  std::optional<Activation> activation = {};  ///< f; none is the identity.
};

/// What one thread needs to run TileGemms. Not shared between threads.
class GemmThread {
 public:
  GemmThread();
  ~GemmThread();
  GemmThread(GemmThread&&) noexcept;

 private:
  friend class TileGemm;
  struct State;
  std::unique_ptr<State> state_;
};

/// A row's bits do not depend on its place in the tile, nor on the rows beside it. Inputs are f32
/// or bf16; processors without AVX-512 multiply copies of them as float32, slower and equally
/// exact. Immutable after construction and callable from any number of threads at once. Throws
/// Error(unsupported) if the library has no such product on this processor.
class TileGemm {
 public:
  explicit TileGemm(const TileGemmShape& shape);
  ~TileGemm();
  TileGemm(TileGemm&&) noexcept;

  void run(const void* a, const void* b, float* c, GemmThread& thread) const;

 private:
  friend class GemmThread;
  struct State;
  std::unique_ptr<State> state_;
};

/// oneDNN's threads are off while one of these lives on the calling thread: parallelism is ours,
/// and a product split over threads would have other bits. Restores the thread's setting.
class SingleThreadedGemm {
 public:
  SingleThreadedGemm();
  ~SingleThreadedGemm();
  SingleThreadedGemm(const SingleThreadedGemm&) = delete;
  SingleThreadedGemm& operator=(const SingleThreadedGemm&) = delete;

 private:
  int saved_threads_;
};

/// "oneDNN 2.6.3", for `comet info`.
const char* gemm_library_name();

}  // namespace comet
