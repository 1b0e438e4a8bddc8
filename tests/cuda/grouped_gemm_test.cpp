// SPDX-License-Identifier: Apache-2.0
// The grouped GEMM against a double-precision product of the same bfloat16 values.
#include "backend/cuda/kernels/grouped_gemm.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <random>
#include <set>
#include <utility>

#include "base/int_math.hpp"
#include "comet/error.hpp"
#include "cuda/gpu_test.hpp"

namespace comet::cuda {
namespace {

constexpr std::uint16_t kUntouched = 0x7fa5;  // a NaN that no product gives

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
};

std::string describe(const Case& c) {
  return fmt::format(
      "rows {} k {} n {} gated {} activated {} weighted {} activation {} layout {} "
      "listed {} blocks {}",
      fmt::join(c.rows, ","), c.k, c.n, c.gated, c.activated, c.weighted, to_string(c.activation),
      to_string(c.layout), c.listed, c.blocks);
}

std::vector<std::uint16_t> random_bf16(std::int64_t count, float scale, std::mt19937& random) {
  std::normal_distribution<float> normal(0, scale);
  std::vector<std::uint16_t> values(static_cast<std::size_t>(count));
  for (auto& value : values) value = to_bf16(normal(random)).bits;
  return values;
}

double value_of(std::uint16_t bits) { return to_float(bf16{bits}); }

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
      for (std::int32_t row = 0; row < c.rows[e]; row += kGemmBlockM) {
        tiles_.push_back({0, e, std::min(kGemmBlockM, c.rows[e] - row), 0, 0});
      }
    }
    slots_ = static_cast<std::int64_t>(tiles_.size()) * kGemmBlockM;
    a_ = random_bf16(slots_ * c.k, 1.0F, random);
    const std::int64_t rows_of_weights = c.gated ? 2 * c.n : c.n;
    w_ = random_bf16(experts * rows_of_weights * c.k, 1 / std::sqrt(static_cast<float>(c.k)),
                     random);
    std::uniform_real_distribution<float> weight(0.1F, 1.0F);
    row_weights_.resize(static_cast<std::size_t>(slots_));
    for (float& value : row_weights_) value = weight(random);
    device_a_ = to_device(a_);
    device_w_ = to_device(w_);
    device_weights_ = to_device(row_weights_);
    device_tiles_ = to_device(tiles_);
    device_count_ = to_device(std::vector{static_cast<std::int32_t>(tiles_.size())});
    c_ = to_device(std::vector<std::uint16_t>(static_cast<std::size_t>(slots_ * c.n), kUntouched));
    for (std::int64_t e = 0; e < experts; ++e) {
      lists_.push_back(device_w_.data() + e * rows_of_weights * c.k);
    }
    device_ = bind(device_w_.data(), lists_);
  }

  void run() {
    const GroupedGemm gemm({.num_experts = static_cast<std::int64_t>(case_.rows.size()),
                            .row_slots = slots_,
                            .k = case_.k,
                            .n = case_.n,
                            .gated = case_.gated,
                            .activated = case_.activated,
                            .activation = case_.activation},
                           device_a_.data(), device_.gate, device_.up, c_.data());
    gemm.launch(device_tiles_.data(), device_count_.data(),
                case_.weighted ? device_weights_.data() : nullptr,
                case_.blocks > 0 ? case_.blocks : num_multiprocessors(), nullptr);
    check_cuda(cudaDeviceSynchronize(), "running the product");
  }

  std::vector<std::uint16_t> result() const { return to_host(c_); }

  // Compares rows by `stride`, so that large cases stay fast.
  void expect_right(std::int64_t stride) const {
    const std::vector<std::uint16_t> c = result();
    std::int64_t element = 0;
    for (std::size_t t = 0; t < tiles_.size(); ++t) {
      for (std::int64_t r = 0; r < kGemmBlockM; ++r) {
        const std::int64_t slot = static_cast<std::int64_t>(t) * kGemmBlockM + r;
        for (std::int64_t n = 0; n < case_.n; ++n) {
          const std::uint16_t got = c[static_cast<std::size_t>(slot * case_.n + n)];
          if (r >= tiles_[t].rows) {
            ASSERT_EQ(got, kUntouched) << "row slot " << slot << " is not in use";
          } else if (element++ % stride == 0) {
            const auto [expected, tolerance] = expect(slot, tiles_[t].expert, n);
            ASSERT_LE(std::abs(value_of(got) - expected), tolerance)
                << "row " << r << " of tile " << t << ", expert " << tiles_[t].expert << ", column "
                << n << ": " << value_of(got) << ", expected " << expected;
          }
        }
      }
    }
  }

 private:
  struct Bound {
    double value;
    double error;
  };

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
      const double product = value_of(a_[slot * case_.k + k]) * value_of(w_[w + k]);
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
    return {value * weight, (error + std::abs(value) * 0x1p-8) * weight + 1e-30};
  }

  MoeWeights bind(const void* fused, const std::vector<const void*>& lists) const {
    const GateLayout layout = case_.gated ? case_.layout : GateLayout::none;
    return case_.listed ? listed_weights(lists.data(), lists.data(), layout, case_.n, case_.k)
                        : fused_weights(fused, fused, layout, case_.n, case_.k);
  }

  Case case_;
  std::vector<Tile> tiles_;
  std::int64_t slots_ = 0;
  std::vector<std::uint16_t> a_, w_;
  std::vector<float> row_weights_;
  DeviceBuffer<std::uint16_t> device_a_, device_w_, c_;
  DeviceBuffer<float> device_weights_;
  DeviceBuffer<Tile> device_tiles_;
  DeviceBuffer<std::int32_t> device_count_;
  std::vector<const void*> lists_;
  MoeWeights device_;
};

TEST(GroupedGemmItems, VisitEachTileAndColumnOnce) {
  for (const int tiles : {1, 15, 16, 17, 40}) {
    for (const int wide : {0, 1, 3, 16}) {
      for (const int narrow : {0, 1}) {
        std::set<std::pair<int, int>> seen;
        for (int i = 0; i < tiles * (wide + narrow); ++i) {
          const GemmItem item = gemm_item(i, tiles, wide);
          EXPECT_LT(item.tile, tiles);
          EXPECT_LT(item.column, wide + narrow);
          EXPECT_EQ(item.column == wide, i >= tiles * wide) << "narrow ones come last";
          seen.insert({item.tile, item.column});
        }
        EXPECT_EQ(seen.size(), static_cast<std::size_t>(tiles * (wide + narrow)));
      }
    }
  }
}

TEST(GroupedGemm, RefusesSizesThatNoLoadCanServe) {
  const auto make = [](const GroupedGemmDesc& desc) {
    const GroupedGemm gemm(desc, nullptr, {}, {}, nullptr);
  };
  EXPECT_THROW(make({.num_experts = 1, .row_slots = 128, .k = 12, .n = 64}), Error);
  EXPECT_THROW(make({.num_experts = 1, .row_slots = 100, .k = 64, .n = 64}), Error);
  EXPECT_THROW(make({.num_experts = 0, .row_slots = 128, .k = 64, .n = 64}), Error);
}

TEST(GroupedGemm, SmallRandomCases) {
  COMET_NEEDS_GPU();
  std::mt19937 random(7);
  const auto pick = [&](auto... options) {
    const std::int64_t all[] = {options...};
    return all[random() % sizeof...(options)];
  };
  for (std::uint32_t i = 0; i < 60; ++i) {
    Case c{.rows = {}, .k = pick(8, 64, 72, 200, 320), .n = pick(8, 120, 128, 136, 256, 264, 520)};
    for (std::int64_t e = pick(1, 2, 5, 8); e > 0; --e) {
      c.rows.push_back(static_cast<std::int32_t>(pick(0, 0, 1, 63, 64, 65, 127, 128, 129, 300)));
    }
    c.gated = random() % 2 == 0;
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
    Case c{.rows = {700, 0, 2048, 1, 511, 64, 1300, 5}, .k = 2048, .n = 1408, .gated = gated};
    SCOPED_TRACE(describe(c));
    Fixture fixture(c, 3);
    fixture.run();
    ASSERT_NO_FATAL_FAILURE(fixture.expect_right(997));
  }
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
