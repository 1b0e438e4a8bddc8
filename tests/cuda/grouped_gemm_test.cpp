// SPDX-License-Identifier: Apache-2.0
// The grouped GEMM against a double-precision product of the same values.
#include "backend/cuda/kernels/grouped_gemm.hpp"

#include <cuda_fp16.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <utility>

#include "base/int_math.hpp"
#include "comet/error.hpp"
#include "cuda/gpu_test.hpp"

namespace comet::cuda {
namespace {

constexpr std::uint16_t kUntouched = 0x7fa5;  // a NaN of both types that no product gives
constexpr double kToInfinity = 65520;         // from here on float16 rounds to infinity

struct Case {
  std::vector<std::int32_t> rows;  // of each expert
  std::int64_t k;
  std::int64_t n;
  bool gated = false;
  bool activated = false;
  bool weighted = false;
  Activation activation = Activation::silu;
  GateLayout layout = GateLayout::gate_up;
  bool listed = false;
  int blocks = 0;  // 0: one per multiprocessor
  DType dtype = DType::bf16;
  std::int32_t block_m = 128;
  std::int32_t skip_front = 0;  // tiles before and after the range that is computed
  std::int32_t skip_back = 0;
  float scale = 1;  // of rows and of weights
};

std::string describe(const Case& c) {
  return fmt::format(
      "rows {} k {} n {} gated {} activated {} weighted {} activation {} layout {} "
      "listed {} blocks {} dtype {} block_m {} skip {} {} scale {}",
      fmt::join(c.rows, ","), c.k, c.n, c.gated, c.activated, c.weighted, to_string(c.activation),
      to_string(c.layout), c.listed, c.blocks, to_string(c.dtype), c.block_m, c.skip_front,
      c.skip_back, c.scale);
}

std::uint16_t bits_of(DType dtype, float value) {
  return dtype == DType::f16 ? __half_as_ushort(__float2half(value)) : to_bf16(value).bits;
}

double value_of(DType dtype, std::uint16_t bits) {
  return dtype == DType::f16 ? __half2float(__ushort_as_half(bits)) : to_float(bf16{bits});
}

std::vector<std::uint16_t> random_elements(DType dtype, std::int64_t count, float scale,
                                           std::mt19937& random) {
  std::normal_distribution<float> normal(0, scale);
  std::vector<std::uint16_t> values(static_cast<std::size_t>(count));
  for (auto& value : values) value = bits_of(dtype, normal(random));
  return values;
}

double activate(Activation activation, double x) {
  switch (activation) {
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    default:
      return std::max(x, 0.0);
  }
}

// One product on the device, with its inputs on the host.
class Fixture {
 public:
  Fixture(const Case& c, std::uint32_t seed) : case_(c) {
    std::mt19937 random(seed);
    const auto experts = static_cast<std::int64_t>(c.rows.size());
    for (std::int32_t e = 0; e < experts; ++e) {
      for (std::int32_t row = 0; row < c.rows[e]; row += c.block_m) {
        tiles_.push_back({0, e, std::min(c.block_m, c.rows[e] - row), 0, 0});
      }
    }
    const auto num_tiles = static_cast<std::int32_t>(tiles_.size());
    first_tile_ = std::min(c.skip_front, num_tiles);
    end_tile_ = std::max(first_tile_, num_tiles - c.skip_back);
    slots_ = std::int64_t{num_tiles} * c.block_m;
    const std::int64_t rows_of_weights = c.gated ? 2 * c.n : c.n;
    w_ = random_elements(c.dtype, experts * rows_of_weights * c.k,
                         c.scale / std::sqrt(static_cast<float>(c.k)), random);
    fill_rows(random);
    device_a_ = to_device(a_);
    device_w_ = to_device(w_);
    device_weights_ = to_device(row_weights_);
    device_tiles_ = to_device(tiles_);
    device_range_ = to_device(std::vector{-1, first_tile_, end_tile_});  // not aligned to 8 bytes
    clear_result();
    for (std::int64_t e = 0; e < experts; ++e) {
      lists_.push_back(device_w_.data() + e * rows_of_weights * c.k);
    }
    device_ = bind(device_w_.data(), lists_);
  }

  void run() {
    product(device_a_.data())
        .launch(device_tiles_.data(), range(), row_weights(), grid(), Follow::closely, nullptr);
    check_cuda(cudaDeviceSynchronize(), "running the product");
  }

  // Also a product of the same tiles whose rows are this one's result, `times` times.
  void run_with(Fixture& second, int times) {
    const GroupedGemm gemm = product(device_a_.data());
    const GroupedGemm next = second.product(c_.data());
    for (int i = 0; i < times; ++i) {
      gemm.launch_with(next, device_tiles_.data(), range(), row_weights(), {}, grid(),
                       Follow::closely, nullptr);
    }
    check_cuda(cudaDeviceSynchronize(), "running both products");
  }

  // A launch for each tile, as the groups of a layer have them, and one of the first product
  // between.
  void run_tile_by_tile(Fixture& second) {
    const GroupedGemm gemm = product(device_a_.data());
    const GroupedGemm next = second.product(c_.data());
    std::vector<std::int32_t> bounds;
    for (std::int32_t tile = first_tile_; tile <= end_tile_; ++tile) bounds.push_back(tile);
    const DeviceBuffer<std::int32_t> ranges = to_device(bounds);
    for (std::size_t i = 0; i + 1 < bounds.size(); ++i) {
      gemm.launch_with(next, device_tiles_.data(), ranges.data() + i, row_weights(), {}, grid(),
                       Follow::closely, nullptr);
      gemm.launch(device_tiles_.data(), ranges.data() + i, row_weights(), grid(), Follow::closely,
                  nullptr);
    }
    check_cuda(cudaDeviceSynchronize(), "running both products");
  }

  // One product after the other.
  void run_before(Fixture& second) {
    run();
    second.product(c_.data()).launch(device_tiles_.data(), range(), nullptr, grid(),
                                     Follow::closely, nullptr);
    check_cuda(cudaDeviceSynchronize(), "running the second product");
  }

  // Nothing of an earlier result is left.
  void clear_result() {
    c_ = to_device(
        std::vector<std::uint16_t>(static_cast<std::size_t>(slots_ * case_.n), kUntouched));
  }

  std::vector<std::uint16_t> result() const { return to_host(c_); }

  // The rows in use, expert by expert: what does not depend on the height of tiles.
  std::vector<std::uint16_t> packed_result() const {
    const std::vector<std::uint16_t> c = result();
    std::vector<std::uint16_t> packed;
    for (std::size_t t = 0; t < tiles_.size(); ++t) {
      const auto begin = c.begin() + static_cast<std::int64_t>(t) * case_.block_m * case_.n;
      packed.insert(packed.end(), begin, begin + tiles_[t].rows * case_.n);
    }
    return packed;
  }

  // Compares rows by `stride`, so that large cases stay fast.
  void expect_right(std::int64_t stride) const {
    const std::vector<std::uint16_t> c = result();
    std::int64_t element = 0;
    for (std::size_t t = 0; t < tiles_.size(); ++t) {
      const auto tile = static_cast<std::int32_t>(t);
      const bool in_range = tile >= first_tile_ && tile < end_tile_;
      for (std::int64_t r = 0; r < case_.block_m; ++r) {
        const std::int64_t slot = std::int64_t{tile} * case_.block_m + r;
        for (std::int64_t n = 0; n < case_.n; ++n) {
          const std::uint16_t got = c[static_cast<std::size_t>(slot * case_.n + n)];
          if (!in_range || r >= tiles_[t].rows) {
            ASSERT_EQ(got, kUntouched) << "row slot " << slot << " is not asked for";
          } else if (element++ % stride == 0) {
            const auto [expected, tolerance] = expect(slot, tiles_[t].expert, n);
            const double value = value_of(case_.dtype, got);
            ASSERT_TRUE(is_close(value, expected, tolerance))
                << "row " << r << " of tile " << t << ", expert " << tiles_[t].expert << ", column "
                << n << ": " << value << ", expected " << expected << " up to " << tolerance;
          }
        }
      }
    }
  }

 private:
  GroupedGemm product(const void* a) {
    return {{.num_experts = static_cast<std::int64_t>(case_.rows.size()),
             .row_slots = slots_,
             .block_m = case_.block_m,
             .k = case_.k,
             .n = case_.n,
             .dtype = case_.dtype,
             .gated = case_.gated,
             .activated = case_.activated,
             .activation = case_.activation},
            a,
            device_.gate,
            device_.up,
            c_.data()};
  }

  const std::int32_t* range() const { return device_range_.data() + 1; }
  const float* row_weights() const { return case_.weighted ? device_weights_.data() : nullptr; }
  GemmGrid grid() const { return {case_.blocks > 0 ? case_.blocks : num_multiprocessors(), true}; }

  struct Bound {
    double value;
    double error;
  };

  // Rows not in use hold NaN, which must reach no other row.
  void fill_rows(std::mt19937& random) {
    a_.assign(static_cast<std::size_t>(slots_ * case_.k), kUntouched);
    row_weights_.assign(static_cast<std::size_t>(slots_), std::nanf(""));
    std::uniform_real_distribution<float> weight(0.1F, 1.0F);
    for (std::size_t t = 0; t < tiles_.size(); ++t) {
      for (std::int32_t r = 0; r < tiles_[t].rows; ++r) {
        const std::int64_t slot = static_cast<std::int64_t>(t) * case_.block_m + r;
        const auto row = random_elements(case_.dtype, case_.k, case_.scale, random);
        std::copy(row.begin(), row.end(), a_.begin() + slot * case_.k);
        row_weights_[static_cast<std::size_t>(slot)] = weight(random);
      }
    }
  }

  bool is_close(double got, double expected, double tolerance) const {
    if (std::isinf(got) && case_.dtype == DType::f16) {
      return std::abs(expected) + tolerance >= kToInfinity &&
             std::signbit(got) == std::signbit(expected);
    }
    return std::abs(got - expected) <= tolerance;
  }

  // Row of the fused w13 that holds row n of gate or up.
  std::int64_t weight_row(std::int64_t n, bool is_gate) const {
    if (!case_.gated) return n;
    if (case_.layout == GateLayout::interleaved) return 2 * n + (is_gate ? 0 : 1);
    return (case_.layout == GateLayout::gate_up) == is_gate ? n : case_.n + n;
  }

  // Float32 accumulation errs by less than 2^-21 of the sum of magnitudes for the sizes used here.
  Bound dot(std::int64_t slot, std::int64_t expert, std::int64_t weight_row) const {
    const std::int64_t rows_of_weights = case_.gated ? 2 * case_.n : case_.n;
    const std::int64_t w = (expert * rows_of_weights + weight_row) * case_.k;
    double sum = 0;
    double magnitude = 0;
    for (std::int64_t k = 0; k < case_.k; ++k) {
      const double product =
          value_of(case_.dtype, a_[slot * case_.k + k]) * value_of(case_.dtype, w_[w + k]);
      sum += product;
      magnitude += std::abs(product);
    }
    return {sum, magnitude * static_cast<double>(case_.k + 8) * 0x1p-23};
  }

  std::pair<double, double> expect(std::int64_t slot, std::int64_t expert, std::int64_t n) const {
    const double weight = case_.weighted && (case_.gated || case_.activated)
                              ? row_weights_[static_cast<std::size_t>(slot)]
                              : 1.0;
    constexpr double kFastExp = 0x1p-19;  // relative error of the activation's fast functions
    const Bound up = dot(slot, expert, weight_row(n, false));
    double value = up.value;
    double error = up.error;
    if (case_.gated) {
      const Bound gate = dot(slot, expert, weight_row(n, true));
      const double f = activate(case_.activation, gate.value);
      value = f * up.value;
      error = std::abs(up.value) * (1.2 * gate.error + kFastExp * std::abs(f)) +
              std::abs(f) * up.error + 1.2 * gate.error * up.error;
    } else if (case_.activated) {
      value = activate(case_.activation, up.value);
      error = 1.2 * up.error + kFastExp * std::abs(value);
    }
    const bool is_half = case_.dtype == DType::f16;
    const double rounding = is_half ? 0x1p-11 : 0x1p-8;
    const double least = is_half ? 0x1p-25 : 1e-30;  // half of the least number of float16
    return {value * weight, (error + std::abs(value) * rounding) * weight + least};
  }

  MoeWeights bind(const void* fused, const std::vector<const void*>& lists) const {
    const GateLayout layout = case_.gated ? case_.layout : GateLayout::none;
    return case_.listed ? listed_weights(lists.data(), lists.data(), layout, case_.n, case_.k)
                        : fused_weights(fused, fused, layout, case_.n, case_.k);
  }

  Case case_;
  std::vector<Tile> tiles_;
  std::int32_t first_tile_ = 0;
  std::int32_t end_tile_ = 0;
  std::int64_t slots_ = 0;
  std::vector<std::uint16_t> a_, w_;
  std::vector<float> row_weights_;
  DeviceBuffer<std::uint16_t> device_a_, device_w_, c_;
  DeviceBuffer<float> device_weights_;
  DeviceBuffer<Tile> device_tiles_;
  DeviceBuffer<std::int32_t> device_range_;
  std::vector<const void*> lists_;
  MoeWeights device_;
};

TEST(GroupedGemm, RefusesSizesThatNoLoadCanServe) {
  const auto make = [](const GroupedGemmDesc& desc) {
    const GroupedGemm gemm(desc, nullptr, {}, {}, nullptr);
  };
  EXPECT_THROW(make({.num_experts = 1, .row_slots = 128, .k = 12, .n = 64}), Error);
  EXPECT_THROW(make({.num_experts = 1, .row_slots = 100, .k = 64, .n = 64}), Error);
  EXPECT_THROW(make({.num_experts = 1, .row_slots = 64, .k = 64, .n = 64}), Error);
  EXPECT_THROW(make({.num_experts = 1, .row_slots = 64, .block_m = 32, .k = 64, .n = 64}), Error);
  EXPECT_THROW(make({.num_experts = 1, .row_slots = 128, .k = 64, .n = 64, .dtype = DType::f32}),
               Error);
  EXPECT_THROW(make({.num_experts = 0, .row_slots = 128, .k = 64, .n = 64}), Error);
}

TEST(GroupedGemm, SmallRandomCases) {
  COMET_NEEDS_GPU();
  std::mt19937 random(7);
  const auto pick = [&](auto... options) {
    const std::int64_t all[] = {options...};
    return all[random() % sizeof...(options)];
  };
  for (std::uint32_t i = 0; i < 64; ++i) {
    Case c{.rows = {},
           .k = pick(8, 64, 72, 200, 320),
           .n = pick(8, 64, 72, 120, 128, 136, 192, 200, 256, 264, 520)};
    for (std::int64_t e = pick(1, 2, 5, 8); e > 0; --e) {
      c.rows.push_back(static_cast<std::int32_t>(
          pick(0, 0, 1, 7, 8, 9, 63, 64, 65, 72, 73, 127, 128, 129, 300)));
    }
    // Each instance of the kernel gets as many cases.
    c.gated = i % 2 == 0;
    c.dtype = i / 2 % 2 == 0 ? DType::bf16 : DType::f16;
    c.block_m = i / 4 % 2 == 0 ? 128 : 64;
    c.skip_front = static_cast<std::int32_t>(pick(0, 0, 1, 2));
    c.skip_back = static_cast<std::int32_t>(pick(0, 0, 1, 2));
    c.activated = random() % 2 == 0;
    c.weighted = random() % 2 == 0;
    c.listed = random() % 3 == 0;
    c.activation = static_cast<Activation>(random() % 3);
    c.layout = static_cast<GateLayout>(random() % 3);
    c.blocks = static_cast<int>(pick(0, 0, 1, 3));
    SCOPED_TRACE(describe(c));
    Fixture fixture(c, i);
    fixture.run();
    ASSERT_NO_FATAL_FAILURE(fixture.expect_right(1));
  }
}

TEST(GroupedGemm, LargeCasesSampled) {
  COMET_NEEDS_GPU();
  for (const bool gated : {false, true}) {
    for (const bool tall : {true, false}) {
      const Case c{.rows = {700, 0, 2048, 1, 511, 64, 1300, 5},
                   .k = 2048,
                   .n = 1408,
                   .gated = gated,
                   .dtype = tall ? DType::bf16 : DType::f16,
                   .block_m = tall ? 128 : 64,
                   .skip_front = 5,
                   .skip_back = 3};
      SCOPED_TRACE(describe(c));
      Fixture fixture(c, 3);
      fixture.run();
      ASSERT_NO_FATAL_FAILURE(fixture.expect_right(997));
    }
  }
}

// What a layer does whose plan has groups: each launch computes one of them.
TEST(GroupedGemm, SmallRangesTogetherAreTheWhole) {
  COMET_NEEDS_GPU();
  for (const std::int32_t block_m : {64, 128}) {
    Case c{.rows = {129, 0, 300, 64}, .k = 136, .n = 264, .gated = true, .block_m = block_m};
    Fixture whole(c, 5);
    whole.run();
    const std::vector<std::uint16_t> expected = whole.result();
    const auto row_slots = static_cast<std::int64_t>(expected.size()) / c.n;
    const auto tiles = static_cast<std::int32_t>(row_slots / block_m);
    std::vector<std::uint16_t> joined(expected.size(), kUntouched);
    for (const auto& [first, end] : {std::pair{0, 1}, {1, 1}, {1, tiles - 2}, {tiles - 2, tiles}}) {
      c.skip_front = first;
      c.skip_back = tiles - end;
      Fixture part(c, 5);
      part.run();
      const std::vector<std::uint16_t> result = part.result();
      const auto begin = static_cast<std::int64_t>(first) * block_m * c.n;
      const auto stop = static_cast<std::int64_t>(end) * block_m * c.n;
      std::copy(result.begin() + begin, result.begin() + stop, joined.begin() + begin);
      EXPECT_EQ(std::count(result.begin(), result.begin() + begin, kUntouched), begin);
      EXPECT_EQ(std::count(result.begin() + stop, result.end(), kUntouched),
                static_cast<std::int64_t>(result.size()) - stop);
    }
    EXPECT_EQ(joined, expected) << "tiles of " << block_m;
  }
}

TEST(GroupedGemm, SmallTilesOfBothHeightsGiveTheSameBits) {
  COMET_NEEDS_GPU();
  for (const bool gated : {false, true}) {
    for (const DType dtype : {DType::bf16, DType::f16}) {
      Case c{.rows = {300, 17, 0, 64, 128}, .k = 328, .n = 456, .gated = gated, .activated = true};
      c.dtype = dtype;
      c.weighted = true;
      std::vector<std::uint16_t> first;
      for (const std::int32_t block_m : {128, 64}) {
        c.block_m = block_m;
        Fixture fixture(c, 13);
        fixture.run();
        if (first.empty()) first = fixture.packed_result();
        EXPECT_EQ(first, fixture.packed_result()) << describe(c);
      }
    }
  }
}

// Few tiles are cut into pieces for the other multiprocessors; a column tile may end in any piece.
TEST(GroupedGemm, SmallTilesInPiecesGiveTheSameBits) {
  COMET_NEEDS_GPU();
  for (const bool gated : {false, true}) {
    for (const std::int64_t n : {264, 512, 600}) {
      Case c{.rows = {1, 0, 40, 64}, .k = 328, .n = n, .gated = gated, .activated = true};
      c.block_m = 64;
      std::vector<std::uint16_t> whole;
      for (const int blocks : {1, 20, 60}) {
        c.blocks = blocks;
        SCOPED_TRACE(describe(c));
        Fixture fixture(c, 19);
        fixture.run();
        ASSERT_NO_FATAL_FAILURE(fixture.expect_right(1));
        if (whole.empty()) whole = fixture.result();
        EXPECT_EQ(whole, fixture.result());
      }
    }
  }
}

// Also when launched again and again, by more blocks than the first product has pieces and by
// fewer.
TEST(GroupedGemm, SmallProductsTogetherGiveTheBitsOfOneAfterTheOther) {
  COMET_NEEDS_GPU();
  struct Launch {
    std::int32_t block_m;
    int blocks;
    DType dtype;
  };
  for (const bool gated : {false, true}) {
    for (const auto& [block_m, blocks, dtype] :
         {Launch{64, 0, DType::bf16}, Launch{64, 1, DType::f16}, Launch{64, 5, DType::bf16},
          Launch{64, 60, DType::f16}, Launch{128, 5, DType::bf16}}) {
      Case c{.rows = {1, 0, 8, 9, 64, 170}, .k = 328, .n = 264, .gated = gated};
      c.activated = c.weighted = true;
      c.blocks = blocks;
      c.dtype = dtype;
      c.block_m = block_m;
      c.skip_front = c.skip_back = blocks == 5 ? 1 : 0;
      Case next{.rows = c.rows, .k = c.n, .n = 600, .blocks = blocks, .dtype = dtype};
      next.block_m = block_m;
      SCOPED_TRACE(describe(c));
      Fixture first(c, 23);
      Fixture second(next, 29);
      first.run_before(second);
      const std::vector<std::uint16_t> expected = second.result();
      ASSERT_GT(std::count_if(expected.begin(), expected.end(),
                              [](std::uint16_t bits) { return bits != kUntouched; }),
                0);
      for (const int times : {1, 3}) {
        first.clear_result();
        second.clear_result();
        first.run_with(second, times);
        EXPECT_EQ(second.result(), expected) << times << " times";
      }
      first.clear_result();
      second.clear_result();
      first.run_tile_by_tile(second);
      EXPECT_EQ(second.result(), expected) << "tile by tile";
    }
  }
}

TEST(GroupedGemm, SmallFloat16CasesOverflowToInfinity) {
  COMET_NEEDS_GPU();
  for (const bool gated : {false, true}) {
    const Case c{.rows = {100, 30},
                 .k = 64,
                 .n = 136,
                 .gated = gated,
                 .dtype = DType::f16,
                 .scale = 170};  // sums of a plain product reach 65520 at 2.3 standard deviations
    SCOPED_TRACE(describe(c));
    Fixture fixture(c, 17);
    fixture.run();
    ASSERT_NO_FATAL_FAILURE(fixture.expect_right(1));
    const std::vector<std::uint16_t> result = fixture.result();
    EXPECT_GT(std::count(result.begin(), result.end(), 0x7c00), 0) << "no infinity";
    EXPECT_GT(std::count(result.begin(), result.end(), 0xfc00), 0) << "no negative infinity";
  }
}

TEST(GroupedGemmTiles, ChosenHeightIsOneOfTheTwoAndGrowsWithTheRows) {
  std::int32_t last = 64;
  for (std::int64_t rows = 0; rows < 1000; ++rows) {
    const std::int32_t block_m = choose_gemm_block_m(rows);
    EXPECT_TRUE(block_m == 64 || block_m == 128) << block_m << " at " << rows;
    EXPECT_GE(block_m, last) << "at " << rows;
    last = block_m;
  }
  EXPECT_EQ(choose_gemm_block_m(1), 64);
  EXPECT_EQ(choose_gemm_block_m(4096), 128);
}

TEST(GroupedGemmTiles, ALastColumnTileIsAsNarrowAsItsColumnsLet) {
  const auto rows_of = [](std::int64_t n) { return narrow_box_rows(n, 128); };
  EXPECT_EQ(rows_of(1408), 0);
  EXPECT_EQ(rows_of(1408 / 4), 96);
  EXPECT_EQ(rows_of(1408 / 8), 64);
  EXPECT_EQ(rows_of(6400 / 8), 32);
  EXPECT_EQ(rows_of(8), 32);
  EXPECT_EQ(rows_of(104), 0);
  EXPECT_EQ(narrow_box_rows(1408 / 4, 64), 0);
}

TEST(GroupedGemm, RerunsAreBitwiseEqualOnAnyNumberOfBlocks) {
  COMET_NEEDS_GPU();
  Case c{.rows = {300, 17, 640}, .k = 1024, .n = 1024, .gated = true};
  std::vector<std::uint16_t> first;
  for (const int blocks : {0, 0, 1, 7, 60}) {
    c.blocks = blocks;
    Fixture fixture(c, 11);
    fixture.run();
    if (first.empty()) first = fixture.result();
    EXPECT_EQ(first, fixture.result()) << blocks << " blocks";
  }
}

}  // namespace
}  // namespace comet::cuda
