// SPDX-License-Identifier: Apache-2.0
#include "measure/bench_weights.hpp"

#include <algorithm>
#include <cmath>
#include <thread>

#include "base/element.hpp"
#include "base/in_parts.hpp"
#include "base/int_math.hpp"
#include "check/rng.hpp"
#include "measure/bench_case.hpp"

namespace comet {
namespace {

constexpr std::uint64_t kWeightStream = 1;
constexpr std::int64_t kPiece = 1 << 20;  // elements that one generator draws

// Numbers in [-scale, scale), of which any range can be drawn by itself.
struct NumberSource {
  DType dtype;
  float scale;
  std::uint64_t seed;
  std::uint64_t stream;

  // Numbers [begin, begin + count).
  void fill(std::int64_t begin, std::int64_t count, std::byte* to) const {
    while (count > 0) {
      const std::int64_t piece = begin / kPiece;
      const std::int64_t size = std::min(count, (piece + 1) * kPiece - begin);
      Rng rng(seed, stream * 1'000'003 + static_cast<std::uint64_t>(piece));
      rng.skip(begin - piece * kPiece);
      dispatch(dtype, [&]<typename T>() {
        T* const values = reinterpret_cast<T*>(to);
        for (std::int64_t i = 0; i < size; ++i) values[i] = from_float<T>(scale * rng.symmetric());
      });
      to += size * static_cast<std::int64_t>(size_of(dtype));
      begin += size;
      count -= size;
    }
  }
};

// Threads that share so many parts, which have so many elements: of few elements, few.
std::int64_t threads_for(std::int64_t count, std::int64_t elements) {
  return std::clamp<std::int64_t>(std::min(count, ceil_div(elements, kPiece)), 1,
                                  std::max(1U, std::thread::hardware_concurrency()));
}

// Matrices of `rows` x `cols` in a tensor of them: of each a block of rows and columns.
struct MatrixBlocks {
  std::int64_t first = 0;
  std::int64_t count = 0;
  std::int64_t rows = 0, row_begin = 0, num_rows = 0;
  std::int64_t cols = 0, col_begin = 0, num_cols = 0;
};

// [count, num_rows, num_cols], dense.
std::unique_ptr<std::byte[]> draw_blocks(const NumberSource& source, const MatrixBlocks& blocks) {
  const auto element = static_cast<std::int64_t>(size_of(source.dtype));
  const std::int64_t all_rows = blocks.count * blocks.num_rows;
  const std::int64_t elements = all_rows * blocks.num_cols;
  auto bytes = std::make_unique_for_overwrite<std::byte[]>(elements * element);
  in_parts(all_rows, threads_for(all_rows, elements), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end;) {
      const std::int64_t matrix = row / blocks.num_rows, of_matrix = row % blocks.num_rows;
      // Whole rows lie one after the other.
      const bool is_whole = blocks.num_cols == blocks.cols;
      const std::int64_t run = is_whole ? std::min(end - row, blocks.num_rows - of_matrix) : 1;
      const std::int64_t from =
          (blocks.first + matrix) * blocks.rows + blocks.row_begin + of_matrix;
      source.fill(from * blocks.cols + blocks.col_begin, run * blocks.num_cols,
                  bytes.get() + row * blocks.num_cols * element);
      row += run;
    }
  });
  return bytes;
}

}  // namespace

std::unique_ptr<std::byte[]> draw_values(std::int64_t count, DType dtype, float scale,
                                         std::uint64_t seed, std::uint64_t stream) {
  const NumberSource source{dtype, scale, seed, stream};
  const auto element = static_cast<std::int64_t>(size_of(dtype));
  auto bytes = std::make_unique_for_overwrite<std::byte[]>(count * element);
  in_parts(count, threads_for(count, count), [&](std::int64_t begin, std::int64_t end) {
    source.fill(begin, end - begin, bytes.get() + begin * element);
  });
  return bytes;
}

BenchWeights::BenchWeights(const MoeDesc& desc, std::uint64_t seed)
    : BenchWeights(desc, seed, {.first = 0, .count = desc.num_experts}) {}

BenchWeights::BenchWeights(const MoeDesc& desc, std::uint64_t seed, const ExpertPart& part)
    : desc_(desc), seed_(seed), part_(part) {
  // Outputs of about 1: uniform numbers in [-s, s) have variance s^2 / 3.
  const float up_scale = 1.7F / std::sqrt(static_cast<float>(desc.hidden));
  const float down_scale = 3.0F / std::sqrt(static_cast<float>(desc.intermediate));
  const std::int64_t width = desc.intermediate / part.num_slices, begin = part.slice * width;
  const MatrixBlocks of_up{.first = part.first,
                           .count = part.count,
                           .rows = desc.intermediate,
                           .row_begin = begin,
                           .num_rows = width,
                           .cols = desc.hidden,
                           .col_begin = 0,
                           .num_cols = desc.hidden};
  const MatrixBlocks of_down{.first = part.first,
                             .count = part.count,
                             .rows = desc.hidden,
                             .row_begin = 0,
                             .num_rows = desc.hidden,
                             .cols = desc.intermediate,
                             .col_begin = begin,
                             .num_cols = width};
  const auto source = [&](float scale, std::uint64_t which) {
    return NumberSource{desc.dtype, scale, seed, kWeightStream + 16 * which};
  };
  if (desc.gated) gate_ = draw_blocks(source(up_scale, 0), of_up);
  up_ = draw_blocks(source(up_scale, 1), of_up);
  down_ = draw_blocks(source(down_scale, 2), of_down);
}

std::int64_t BenchWeights::matrices_bytes() const noexcept {
  return part_.count * (desc_.intermediate / part_.num_slices) * desc_.hidden *
         static_cast<std::int64_t>(size_of(desc_.dtype));
}

bool BenchWeights::are_of(const MoeDesc& desc, std::uint64_t seed) const noexcept {
  return seed == seed_ && part_.count == desc.num_experts && part_.num_slices == 1 &&
         desc.hidden == desc_.hidden && desc.intermediate == desc_.intermediate &&
         desc.gated == desc_.gated && desc.dtype == desc_.dtype;
}

std::shared_ptr<const BenchWeights> BenchWeightsCache::weights_of(const BenchCase& bench) {
  if (last_ != nullptr && last_->are_of(bench.desc, bench.seed)) return last_;
  last_.reset();
  last_ = std::make_shared<const BenchWeights>(bench.desc, bench.seed);
  return last_;
}

}  // namespace comet
