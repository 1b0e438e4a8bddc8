// SPDX-License-Identifier: Apache-2.0
// oneDNN rather than OpenBLAS: on tiles of 64 to 256 rows it measured 150-190 GFLOP/s per core
// against 115-150 (float32, K = 1024), and it has bfloat16 with the processor's own instructions.
// Without AVX-512 (measured, 2.6.3 on AVX2) it has no bfloat16 products, and the order in which it
// sums a float32 row depends on the row's place in the tile unless the rows are a multiple of 12,
// at most 192: its kernel takes 6 rows at a time and sums a rest of 1 to 3 rows otherwise. There
// the product works on copies: inputs as float32, which is exact, and rows in such slabs. The
// copies are O(mk + nk + mn) beside O(mnk) products.
#include "backend/cpu/tile_gemm.hpp"

#include <omp.h>

#include <algorithm>
#include <array>
#include <dnnl.hpp>
#include <mutex>
#include <string>
#include <vector>

#include "base/check.hpp"
#include "base/int_math.hpp"
#include "base/race_check.hpp"
#include "comet/dtype.hpp"

namespace comet {
namespace {

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// The library hands the same cached primitive to all ranks that ask for one shape. It guards its
// cache itself, but out of ThreadSanitizer's sight; with our lock around making and dropping
// products the checker sees the order, and neither is on a call's path.
std::mutex& library_cache_mutex() {
  static std::mutex mutex;
  return mutex;
}

dnnl::primitive_attr make_attributes(const std::optional<Activation>& activation) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (!activation) return attributes;
  dnnl::post_ops post_ops;
  switch (*activation) {
    case Activation::silu:
      post_ops.append_eltwise(1.0F, dnnl::algorithm::eltwise_swish, 1.0F, 0.0F);
      break;
    case Activation::gelu:
      post_ops.append_eltwise(1.0F, dnnl::algorithm::eltwise_gelu_erf, 0.0F, 0.0F);
      break;
    case Activation::relu:
      post_ops.append_eltwise(1.0F, dnnl::algorithm::eltwise_relu, 0.0F, 0.0F);
      break;
  }
  attributes.set_post_ops(post_ops);
  return attributes;
}

bool has_avx512() {
  const auto has = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto wanted = static_cast<unsigned>(dnnl::cpu_isa::avx512_core);
  return (has & wanted) == wanted;
}

// Rows of the slabs that a product of `m` rows is made of, see above.
std::int64_t slab_rows(std::int64_t m) {
  constexpr std::int64_t kMost = 192;
  constexpr std::int64_t kMultiple = 12;
  return round_up(ceil_div(m, ceil_div(m, kMost)), kMultiple);
}

// Makes `to` the [rows, columns] of `from`, whose rows are `stride` elements apart, without gaps.
void widen_rows(const void* from, DType dtype, std::int64_t rows, std::int64_t columns,
                std::int64_t stride, float* to) {
  const auto widen = [&]<typename T>(const T* typed) {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        to[r * columns + c] = to_float(typed[r * stride + c]);
      }
    }
  };
  if (dtype == DType::f32) return widen(static_cast<const float*>(from));
  widen(static_cast<const bf16*>(from));
}

}  // namespace

struct TileGemm::State {
  std::uint64_t id = 0;  // never used again, unlike an address
  TileGemmShape shape;
  std::int64_t slab = 0;  // rows, if the product works on copies
  dnnl::memory::desc a, b, c, scratchpad;
  dnnl::matmul primitive;

  void make_primitive() {
    using Desc = dnnl::memory::desc;
    using Dims = dnnl::memory::dims;
    const bool copies = slab > 0;
    const auto type = shape.dtype == DType::f32 || copies ? dnnl::memory::data_type::f32
                                                          : dnnl::memory::data_type::bf16;
    const std::int64_t m = copies ? slab : shape.m;
    a = Desc({m, shape.k}, type, Dims{shape.k, 1});
    b = Desc({shape.k, shape.n}, type, Dims{1, copies ? shape.k : shape.ldb});
    c = Desc({m, shape.n}, dnnl::memory::data_type::f32, Dims{copies ? shape.n : shape.ldc, 1});
    const dnnl::matmul::primitive_desc description({a, b, c}, make_attributes(shape.activation),
                                                   cpu_engine());
    scratchpad = description.scratchpad_desc();
    primitive = dnnl::matmul(description);
  }
};

namespace {

// The library's handles of one product, which differ from call to call only in their addresses:
// made anew for each tile they cost allocations, some percent of a small product.
struct ProductArguments {
  std::uint64_t gemm_id;
  dnnl::memory a, b, c, scratchpad;
  std::array<dnnl_exec_arg_t, 4> list;
};

}  // namespace

struct GemmThread::State {
  dnnl::stream stream{cpu_engine()};
  std::vector<std::byte> scratchpad;
  std::vector<float> a, b, c;              // copies
  std::vector<ProductArguments> products;  // a layer has a few

  ProductArguments& arguments_of(const TileGemm::State& gemm) {
    for (ProductArguments& known : products) {
      if (known.gemm_id == gemm.id) return known;
    }
    const auto memory = [](const dnnl::memory::desc& desc) {
      return dnnl::memory(desc, cpu_engine(), nullptr);
    };
    ProductArguments& made = products.emplace_back(ProductArguments{
        gemm.id, memory(gemm.a), memory(gemm.b), memory(gemm.c), memory(gemm.scratchpad), {}});
    made.list = {{{DNNL_ARG_SRC, made.a.get()},
                  {DNNL_ARG_WEIGHTS, made.b.get()},
                  {DNNL_ARG_DST, made.c.get()},
                  {DNNL_ARG_SCRATCHPAD, made.scratchpad.get()}}};
    return made;
  }

  void execute(const TileGemm::State& gemm, const void* from_a, const void* from_b, float* to_c) {
    if (scratchpad.size() < gemm.scratchpad.get_size())
      scratchpad.resize(gemm.scratchpad.get_size());
    ProductArguments& arguments = arguments_of(gemm);
    // The library takes inputs as mutable handles but only reads them.
    arguments.a.set_data_handle(const_cast<void*>(from_a));
    arguments.b.set_data_handle(const_cast<void*>(from_b));
    arguments.c.set_data_handle(to_c);
    arguments.scratchpad.set_data_handle(scratchpad.data());
    dnnl::error::wrap_c_api(
        dnnl_primitive_execute(gemm.primitive.get(), stream.get(),
                               static_cast<int>(arguments.list.size()), arguments.list.data()),
        "could not execute a product");
    stream.wait();
  }

  void execute_on_copies(const TileGemm::State& gemm, const void* from_a, const void* from_b,
                         float* to_c) {
    const TileGemmShape& shape = gemm.shape;
    const std::int64_t slab = gemm.slab;
    const auto fit = [](std::vector<float>& buffer, std::int64_t count) {
      if (buffer.size() < static_cast<std::size_t>(count)) buffer.resize(count);
    };
    fit(a, slab * shape.k);
    fit(b, shape.n * shape.k);
    fit(c, slab * shape.n);
    widen_rows(from_b, shape.dtype, shape.n, shape.k, shape.ldb, b.data());
    for (std::int64_t first = 0; first < shape.m; first += slab) {
      const std::int64_t rows = std::min(slab, shape.m - first);
      const auto* row =
          static_cast<const std::byte*>(from_a) + first * shape.k * size_of(shape.dtype);
      widen_rows(row, shape.dtype, rows, shape.k, shape.k, a.data());
      std::fill(a.begin() + rows * shape.k, a.begin() + slab * shape.k, 0.0F);
      library_writes(c.data(), slab * shape.n * sizeof(float));
      execute(gemm, a.data(), b.data(), c.data());
      for (std::int64_t r = 0; r < rows; ++r) {
        std::copy_n(c.data() + r * shape.n, shape.n, to_c + (first + r) * shape.ldc);
      }
    }
  }
};

GemmThread::GemmThread() : state_(std::make_unique<State>()) {}
GemmThread::~GemmThread() = default;
GemmThread::GemmThread(GemmThread&&) noexcept = default;

TileGemm::TileGemm(const TileGemmShape& shape) : state_(std::make_unique<State>()) {
  const SingleThreadedGemm single_threaded;
  const std::lock_guard lock(library_cache_mutex());
  static std::uint64_t last_id = 0;  // under the lock
  state_->id = ++last_id;
  state_->shape = shape;
  if (!has_avx512()) state_->slab = slab_rows(shape.m);
  try {
    state_->make_primitive();
  } catch (const dnnl::error& error) {
    fail(ErrorCode::unsupported,
         "[gemm] oneDNN has no {} product {} x {} x {} on this processor: {}",
         to_string(shape.dtype), shape.m, shape.n, shape.k, error.what());
  }
}

TileGemm::~TileGemm() {
  const std::lock_guard lock(library_cache_mutex());
  state_.reset();
}
TileGemm::TileGemm(TileGemm&&) noexcept = default;

void TileGemm::run(const void* a, const void* b, float* c, GemmThread& thread) const {
  if (state_->slab > 0) return thread.state_->execute_on_copies(*state_, a, b, c);
  const TileGemmShape& shape = state_->shape;
  const std::size_t bytes = size_of(shape.dtype);
  library_reads(a, shape.m * shape.k * bytes);
  for (std::int64_t n = 0; n < shape.n; ++n) {
    library_reads(static_cast<const std::byte*>(b) + n * shape.ldb * bytes, shape.k * bytes);
  }
  for (std::int64_t m = 0; m < shape.m; ++m) {
    library_writes(c + m * shape.ldc, shape.n * sizeof(float));
  }
  thread.state_->execute(*state_, a, b, c);
}

SingleThreadedGemm::SingleThreadedGemm() : saved_threads_(omp_get_max_threads()) {
  omp_set_num_threads(1);
}

SingleThreadedGemm::~SingleThreadedGemm() { omp_set_num_threads(saved_threads_); }

const char* gemm_library_name() {
  static const std::string name = fmt::format("oneDNN {}.{}.{}", dnnl::version()->major,
                                              dnnl::version()->minor, dnnl::version()->patch);
  return name.c_str();
}

}  // namespace comet
