// SPDX-License-Identifier: Apache-2.0
#include "bench/gemm_rates.hpp"

#include <algorithm>
#include <ctime>
#include <dnnl.hpp>
#include <vector>

#include "backend/cpu/tile_gemm.hpp"
#include "comet/layer.hpp"
#include "measure/bench_data.hpp"

namespace comet::bench {
namespace {

constexpr std::int64_t kLargeRows = 2048;

double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// C [m, n] = A [m, k] * B, float32 out, with B stored [k, n] or, as weights are, [n, k].
class LargeProduct {
 public:
  LargeProduct(DType dtype, std::int64_t m, std::int64_t n, std::int64_t k, bool transposed)
      : flops_(2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k)) {
    using dnnl::memory;
    using Dims = memory::dims;
    const auto type = dtype == DType::f32 ? memory::data_type::f32 : memory::data_type::bf16;
    const SingleThreadedGemm single_threaded;
    const memory::desc a({m, k}, type, Dims{k, 1});
    const memory::desc b({k, n}, type, transposed ? Dims{1, k} : Dims{n, 1});
    const memory::desc c({m, n}, memory::data_type::f32, Dims{n, 1});
    product_ = dnnl::matmul(dnnl::matmul::primitive_desc({a, b, c}, engine_));
    arguments_ = {
        {DNNL_ARG_SRC, filled(a)}, {DNNL_ARG_WEIGHTS, filled(b)}, {DNNL_ARG_DST, filled(c)}};
  }

  double flops() const { return flops_; }

  double seconds() {
    const SingleThreadedGemm single_threaded;
    const double start = thread_seconds();
    product_.execute(stream_, arguments_);
    stream_.wait();
    return thread_seconds() - start;
  }

 private:
  dnnl::memory filled(const dnnl::memory::desc& desc) {
    dnnl::memory memory(desc, engine_);
    // 0x3c3c is a small normal number both as float32 and as bfloat16.
    std::fill_n(static_cast<unsigned char*>(memory.get_data_handle()), desc.get_size(), 0x3c);
    return memory;
  }

  double flops_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  dnnl::matmul product_;
  std::unordered_map<int, dnnl::memory> arguments_;
};

// The library in whichever of the two layouts of B it likes better.
class LibraryRate {
 public:
  LibraryRate(DType dtype, std::int64_t n, std::int64_t k)
      : plain_(dtype, kLargeRows, n, k, false), transposed_(dtype, kLargeRows, n, k, true) {}

  double seconds_per_flop() {
    return std::min(plain_.seconds(), transposed_.seconds()) / plain_.flops();
  }

 private:
  LargeProduct plain_, transposed_;
};

}  // namespace

void with_gemm_rates(const GemmCase& c,
                     const std::function<void(std::function<GemmRates()>)>& body) {
  BenchCase bench;
  bench.desc = c.desc;
  bench.parallel = {.ep = 1, .tp = 1};
  bench.tokens = c.tokens;
  const BenchData data(bench);
  const MoeDesc& desc = data.desc();
  LibraryRate up(desc.dtype, desc.intermediate, desc.hidden);
  LibraryRate down(desc.dtype, desc.hidden, desc.intermediate);
  const auto rows = static_cast<double>(data.rows());
  const double pair =  // of one product of all rows with one H x I matrix
      2.0 * rows * static_cast<double>(desc.hidden) * static_cast<double>(desc.intermediate);
  const double first = desc.gated ? 2 * pair : pair;
  std::vector<std::byte> y(c.tokens * desc.hidden * size_of(desc.dtype));
  // One rank with one worker: the calling thread does all the work.
  run_local_world(1, {}, [&](World& world) {
    const auto layer =
        MoeLayer::create(desc, bench.parallel, data.weights_of(0), world, {.num_workers = 1});
    layer->forward(data.x_of(0), data.routing_of(0),
                   {y.data(), c.tokens, desc.hidden, desc.hidden, desc.dtype},
                   {.schedule = Schedule::sequential, .panel = desc.hidden});
    body([&] {
      GemmRates rates;
      const double library = first * up.seconds_per_flop() + pair * down.seconds_per_flop();
      const double start = thread_seconds();
      layer->replay_compute();
      rates.grouped_seconds = thread_seconds() - start;
      rates.grouped = (first + pair) / rates.grouped_seconds * 1e-9;
      rates.library = (first + pair) / library * 1e-9;
      return rates;
    });
  });
}

}  // namespace comet::bench
