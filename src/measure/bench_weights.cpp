// SPDX-License-Identifier: Apache-2.0
#include "measure/bench_weights.hpp"

#include <algorithm>
#include <cmath>
#include <thread>
#include <vector>

#include "base/element.hpp"
#include "base/int_math.hpp"
#include "check/rng.hpp"
#include "measure/bench_case.hpp"

namespace comet {
namespace {

constexpr std::uint64_t kWeightStream = 1;
constexpr std::int64_t kPiece = 1 << 20;  // elements drawn from one stream, by one thread

template <typename T>
void fill_piece(T* values, std::int64_t count, float scale, Rng rng) {
  for (std::int64_t i = 0; i < count; ++i) values[i] = from_float<T>(scale * rng.symmetric());
}

}  // namespace

std::unique_ptr<std::byte[]> draw_values(std::int64_t count, DType dtype, float scale,
                                         std::uint64_t seed, std::uint64_t stream) {
  auto bytes = std::make_unique_for_overwrite<std::byte[]>(count * size_of(dtype));
  const std::int64_t pieces = ceil_div(count, kPiece);
  const auto fill = [&](std::int64_t piece_begin, std::int64_t piece_end) {
    for (std::int64_t piece = piece_begin; piece < piece_end; ++piece) {
      const std::int64_t begin = piece * kPiece;
      const std::int64_t size = std::min(kPiece, count - begin);
      const Rng rng(seed, stream * 1'000'003 + static_cast<std::uint64_t>(piece));
      dispatch(dtype, [&]<typename T>() {
        fill_piece(reinterpret_cast<T*>(bytes.get()) + begin, size, scale, rng);
      });
    }
  };
  const std::int64_t threads = std::clamp<std::int64_t>(std::thread::hardware_concurrency(), 1,
                                                        std::max<std::int64_t>(pieces, 1));
  std::vector<std::jthread> helpers;
  for (std::int64_t i = 1; i < threads; ++i) {
    helpers.emplace_back(fill, pieces * i / threads, pieces * (i + 1) / threads);
  }
  fill(0, pieces / threads);
  return bytes;
}

BenchWeights::BenchWeights(const MoeDesc& desc, std::uint64_t seed) : desc_(desc), seed_(seed) {
  const std::int64_t elements = desc.num_experts * desc.intermediate * desc.hidden;
  // Outputs of about 1: uniform numbers in [-s, s) have variance s^2 / 3.
  const float up_scale = 1.7F / std::sqrt(static_cast<float>(desc.hidden));
  const float down_scale = 3.0F / std::sqrt(static_cast<float>(desc.intermediate));
  const auto weights = [&](float scale, std::uint64_t which) {
    return draw_values(elements, desc.dtype, scale, seed, kWeightStream + 16 * which);
  };
  if (desc.gated) gate_ = weights(up_scale, 0);
  up_ = weights(up_scale, 1);
  down_ = weights(down_scale, 2);
}

bool BenchWeights::are_of(const MoeDesc& desc, std::uint64_t seed) const noexcept {
  return seed == seed_ && desc.num_experts == desc_.num_experts && desc.hidden == desc_.hidden &&
         desc.intermediate == desc_.intermediate && desc.gated == desc_.gated &&
         desc.dtype == desc_.dtype;
}

std::shared_ptr<const BenchWeights> BenchWeightsCache::weights_of(const BenchCase& bench) {
  if (last_ != nullptr && last_->are_of(bench.desc, bench.seed)) return last_;
  last_.reset();
  last_ = std::make_shared<const BenchWeights>(bench.desc, bench.seed);
  return last_;
}

}  // namespace comet
