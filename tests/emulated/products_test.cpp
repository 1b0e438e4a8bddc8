// SPDX-License-Identifier: Apache-2.0
// The kernels of products alone, emulated, against plain sums: tiles of 64 rows, one product or
// two, and of 128, one and not in pairs; any number of rows, columns and inner sizes that fill no
// tile, more blocks than pieces and fewer, launched twice. Elements are whole numbers, so results
// are exact until they are rounded.
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "backend/cuda/kernels/sm90_grouped_gemm.cuh"
#include "backend/cuda/kernels/sm90_product_chain.cuh"

namespace comet::cuda::sm90 {

alignas(1024) thread_local std::uint8_t shared[kChainBytes];
static_assert(kChainBytes >= Shape<128>::kRingBytes);

namespace {

using Element = std::uint16_t;
constexpr Element kUntouched = 0x7fa5;  // NaN of both types

struct Case {
  int block_m = 64;
  std::vector<std::int32_t> rows;  // of each expert
  int hidden = 8;                  // inner size of the first product
  int inter = 8;
  int columns = 0;  // of the second product; 0: there is none
  bool gated = false;
  bool activated = false;
  bool weighted = false;
  bool is_eager = false;
  unsigned blocks = 1;
  DType dtype = DType::bf16;
  std::int32_t skip_front = 0;  // tiles before the range that is computed

  std::string text() const {
    return fmt::format(
        "tiles of {}, rows {}, {} x {} x {}, gated {}, activated {}, weighted {}, eager {}, blocks "
        "{}, {}, skip {}",
        block_m, rows, hidden, inter, columns, gated, activated, weighted, is_eager, blocks,
        to_string(dtype), skip_front);
  }
};

Element bits_of(DType dtype, float value) {
  return dtype == DType::f16 ? to_f16(value).bits : to_bf16(value).bits;
}
float value_of(DType dtype, Element bits) {
  return dtype == DType::f16 ? to_float(f16{bits}) : to_float(bf16{bits});
}

CUtensorMap map_of(const Element* data, std::int64_t rows, std::int64_t cols,
                   std::int64_t box_rows) {
  const BoxMap boxes{{data, rows, cols, cols}, box_rows};
  CUtensorMap map{};
  std::memcpy(&map, &boxes, sizeof(boxes));
  return map;
}

// One product's weights, and what the kernel is given of it.
class Product {
 public:
  Product(const Case& of, int k, int n, bool gated, const std::vector<Element>& rows,
          std::vector<Element>& result, std::mt19937& random)
      : block_m_(of.block_m), dtype_(of.dtype), gated_(gated), k_(k), n_(n) {
    const auto slots = static_cast<std::int64_t>(rows.size()) / k;
    const int matrices = gated ? 2 : 1;
    for (std::size_t e = 0; e < of.rows.size() * static_cast<std::size_t>(matrices); ++e) {
      std::vector<Element> matrix;
      for (int i = 0; i < n * k; ++i)
        matrix.push_back(bits_of(of.dtype, static_cast<float>(random() % 3) - 1));
      weights_.push_back(std::move(matrix));
    }
    const auto add_maps = [&](std::int64_t box_rows) {
      for (const std::vector<Element>& matrix : weights_) {
        maps_.push_back(map_of(matrix.data(), n, k, box_rows));
      }
    };
    add_maps(weight_box_rows(block_m_));
    if (gated) params_.narrow_rows = narrow_box_rows(n, block_m_);
    if (params_.narrow_rows != 0) {
      add_maps(params_.narrow_rows);
      params_.narrow_maps = maps_.data() + weights_.size();
    }
    params_.a_map = map_of(rows.data(), slots, k, block_m_);
    params_.few_rows_map = map_of(rows.data(), slots, k, kFewTileRows);
    params_.weight_maps = maps_.data();
    params_.c = result.data();
    params_.k = k;
    params_.n = n;
  }
  GroupedGemmParams& params() { return params_; }

  // Of a row of expert `expert`.
  float compute(const Element* row, int expert, int column, bool activated, float weight) const {
    const auto sum = [&](const std::vector<Element>& matrix) {
      float total = 0;
      for (int k = 0; k < k_; ++k) {
        total += value_of(dtype_, row[k]) *
                 value_of(dtype_, matrix[static_cast<std::size_t>(column * k_ + k)]);
      }
      return total;
    };
    const auto first = static_cast<std::size_t>(expert * (gated_ ? 2 : 1));
    const float value = sum(weights_[first]);
    if (!gated_ && !activated) return value;
    const float active = std::max(value, 0.0F);
    return (gated_ ? active * sum(weights_[first + 1]) : active) * weight;
  }
  // Bytes that all pieces of a tile load, of which each loads the tile's rows.
  std::int64_t bytes_of_tile(std::int32_t rows, int num_tiles, unsigned blocks) const {
    const int per_column = gated_ ? kBlockN / 2 : kBlockN;
    const int tiles = (n_ + per_column - 1) / per_column;
    int pieces = block_m_ == 128 ? 1 : gated_ ? 2 : 4;
    while (pieces > 1 && num_tiles * tiles * pieces > static_cast<int>(blocks)) pieces /= 2;
    const std::int64_t rows_loaded =
        block_m_ == 64 && rows <= kFewTileRows ? kFewTileRows : block_m_;
    const std::int32_t narrow = params_.narrow_rows;
    const int not_loaded = narrow != 0 ? kBlockN - 2 * narrow : 0;  // of the last one's weights
    return (k_ + kBlockK - 1) / kBlockK * (tiles * (pieces * rows_loaded + kBlockN) - not_loaded) *
           kBlockK * 2;
  }

 private:
  int block_m_;
  DType dtype_;
  bool gated_;
  int k_;
  int n_;
  std::vector<std::vector<Element>> weights_;
  std::vector<CUtensorMap> maps_;
  GroupedGemmParams params_;
};

template <bool GATED, typename ELEMENT>
void launch_of(const Case& of, const ProductChain& chain) {
  using Plain = Variant<false, ELEMENT, 64>;
  if (of.block_m == 64) {
    emulated::run_grid(of.blocks, kThreads, false,
                       [&] { product_chain_kernel<Variant<GATED, ELEMENT, 64>, Plain>(chain); });
  } else {
    emulated::run_grid(of.blocks, kThreads, true,
                       [&] { grouped_gemm_kernel<Variant<GATED, ELEMENT, 128>>(chain.first); });
  }
}

void expect_right(const Case& of, std::mt19937& random) {
  SCOPED_TRACE(of.text());
  std::vector<Tile> tiles;
  for (std::int32_t e = 0; e < static_cast<std::int32_t>(of.rows.size()); ++e) {
    for (std::int32_t row = 0; row < of.rows[static_cast<std::size_t>(e)]; row += of.block_m) {
      tiles.push_back(
          {0, e, std::min(of.block_m, of.rows[static_cast<std::size_t>(e)] - row), 0, 0});
    }
  }
  const auto tile_rows = static_cast<std::size_t>(of.block_m);
  const auto slots = tiles.size() * tile_rows;
  std::vector<Element> x(slots * static_cast<std::size_t>(of.hidden), kUntouched);
  std::vector<float> row_weights(slots, std::nanf(""));
  for (std::size_t t = 0; t < tiles.size(); ++t) {
    for (std::size_t row = t * tile_rows;
         row < t * tile_rows + static_cast<std::size_t>(tiles[t].rows); ++row) {
      row_weights[row] = static_cast<float>(1 + random() % 2);
      for (int h = 0; h < of.hidden; ++h) {
        x[row * static_cast<std::size_t>(of.hidden) + static_cast<std::size_t>(h)] =
            bits_of(of.dtype, static_cast<float>(random() % 3) - 1);
      }
    }
  }
  std::vector<Element> acts(slots * static_cast<std::size_t>(of.inter));
  std::vector<Element> out(slots * static_cast<std::size_t>(of.columns));
  Product first(of, of.hidden, of.inter, of.gated, x, acts, random);
  Product second(of, of.inter, std::max(of.columns, 8), false, acts, out, random);
  std::vector<TileProgress> progress(tiles.size());
  std::uint32_t ticket = 0;
  const auto num_tiles = static_cast<std::int32_t>(tiles.size());
  const std::int32_t range[] = {std::min(of.skip_front, num_tiles), num_tiles};
  ProductChain chain{
      .first = first.params(), .second = {}, .progress = progress.data(), .ticket = &ticket};
  chain.timeout_ns = ~0ULL;
  chain.first.activated = of.activated;
  chain.first.activation = Activation::relu;
  chain.first.tiles = tiles.data();
  chain.first.tile_range = range;
  chain.first.row_weights = of.weighted ? row_weights.data() : nullptr;
  if (of.columns > 0) {
    chain.second = second.params();
    chain.second.tiles = tiles.data();
    chain.second.tile_range = range;
  }
  std::int64_t bytes = 0;
  for (std::int32_t t = range[0]; t < range[1]; ++t) {
    const std::int32_t rows = tiles[static_cast<std::size_t>(t)].rows;
    bytes += first.bytes_of_tile(rows, range[1] - range[0], of.blocks);
    if (of.columns > 0) bytes += second.bytes_of_tile(rows, range[1] - range[0], of.blocks);
  }
  product_memory = {.shared = reinterpret_cast<std::byte*>(shared),
                    .bytes = sizeof(shared),
                    .is_eager = of.is_eager};
  for (int launch = 0; launch < 2; ++launch) {
    std::fill(acts.begin(), acts.end(), kUntouched);
    std::fill(out.begin(), out.end(), kUntouched);
    std::memset(shared, 0xff, sizeof(shared));
    product_memory.loaded_bytes = 0;
    if (of.dtype == DType::f16) {
      of.gated ? launch_of<true, __half>(of, chain) : launch_of<false, __half>(of, chain);
    } else {
      of.gated ? launch_of<true, __nv_bfloat16>(of, chain)
               : launch_of<false, __nv_bfloat16>(of, chain);
    }
    ASSERT_EQ(product_memory.loaded_bytes, bytes);
    ASSERT_EQ(ticket, 0U);
    for (const TileProgress& of_tile : progress)
      ASSERT_TRUE(of_tile.written == 0 && of_tile.readers == 0);
    for (std::size_t slot = 0; slot < slots; ++slot) {
      const auto t = slot / tile_rows;
      const bool is_computed = static_cast<std::int32_t>(t) >= range[0] &&
                               static_cast<int>(slot % tile_rows) < tiles[t].rows;
      const auto check = [&](const Product& product, const std::vector<Element>& rows, int k,
                             const std::vector<Element>& result, int n, bool activated,
                             float weight) {
        for (int column = 0; column < n; ++column) {
          const Element expected =
              is_computed ? bits_of(of.dtype, product.compute(
                                                  rows.data() + slot * static_cast<std::size_t>(k),
                                                  tiles[t].expert, column, activated, weight))
                          : kUntouched;
          const Element got =
              result[slot * static_cast<std::size_t>(n) + static_cast<std::size_t>(column)];
          // Zero may have either sign.
          if (is_computed && value_of(of.dtype, got) == 0 && value_of(of.dtype, expected) == 0)
            continue;
          ASSERT_EQ(got, expected) << "slot " << slot << ", column " << column << " of " << n;
        }
      };
      check(first, x, of.hidden, acts, of.inter, of.activated, of.weighted ? row_weights[slot] : 1);
      if (of.columns > 0) check(second, acts, of.inter, out, of.columns, false, 1);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

void expect_random_cases_right(int block_m, int count) {
  std::mt19937 random(20261130);
  const auto pick = [&](auto... options) {
    const std::int32_t all[] = {options...};
    return all[random() % sizeof...(options)];
  };
  for (int trial = 0; trial < count; ++trial) {
    Case of{.block_m = block_m};
    for (int e = pick(1, 2, 3); e > 0; --e) of.rows.push_back(pick(0, 1, 7, 8, 9, 64, 65, 72, 130));
    of.hidden = pick(8, 64, 72, 136, 400);
    // The latter end in each narrow column tile of a gated product.
    of.inter = block_m == 64 ? pick(8, 64, 72, 136, 264) : pick(8, 72, 136, 192, 352);
    of.columns = block_m == 64 ? pick(0, 8, 72, 264, 328) : 0;
    of.gated = random() % 2 == 0;
    of.activated = random() % 2 == 0;
    of.weighted = random() % 2 == 0;
    of.is_eager = random() % 2 == 0;
    of.blocks = static_cast<unsigned>(pick(1, 2, 3, 7, 20, 60));
    of.dtype = random() % 2 == 0 ? DType::bf16 : DType::f16;
    of.skip_front = pick(0, 0, 0, 1);
    expect_right(of, random);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(Products, OfTilesOf64RowsAreRight) { expect_random_cases_right(64, 250); }
TEST(Products, OfTilesOf128RowsAreRight) { expect_random_cases_right(128, 60); }

}  // namespace
}  // namespace comet::cuda::sm90
