// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/kernels/grouped_gemm.hpp"

#include <algorithm>
#include <vector>

#include "backend/cuda/host/tensor_map.hpp"
#include "base/check.hpp"

namespace comet::cuda {
namespace {

void check_device() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "finding the current device");
  int major = 0;
  int minor = 0;
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
             "reading its compute capability");
  check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
             "reading its compute capability");
  check(major == 9 && minor == 0, ErrorCode::unsupported,
        "[cuda] device {} has compute capability {}.{}, this build's kernels need 9.0 (Hopper)",
        device, major, minor);
}

void check_desc(const GroupedGemmDesc& desc) {
  check(desc.dtype == DType::bf16 || desc.dtype == DType::f16, ErrorCode::invalid_argument,
        "[gemm] elements of {}: allowed are bf16 and f16", to_string(desc.dtype));
  check(desc.block_m == 64 || desc.block_m == 128, ErrorCode::invalid_argument,
        "[gemm] tiles of {} rows: allowed are 64 and 128", desc.block_m);
  check(desc.num_experts >= 1 && desc.row_slots >= 0 && desc.row_slots % desc.block_m == 0 &&
            desc.row_slots <= INT32_MAX,
        ErrorCode::invalid_argument,
        "[gemm] {} experts and {} row slots: at least 1, and a multiple of {} below 2^31",
        desc.num_experts, desc.row_slots, desc.block_m);
  check(desc.k >= 8 && desc.n >= 8 && desc.k % 8 == 0 && desc.n % 8 == 0 && desc.k <= INT32_MAX &&
            desc.n <= INT32_MAX,
        ErrorCode::invalid_argument,
        "[gemm] inner size {} and columns {}: multiples of 8 from 8 on", desc.k, desc.n);
}

}  // namespace

GroupedGemm::GroupedGemm(const GroupedGemmDesc& desc, const void* a, const ExpertMatrices& gate,
                         const ExpertMatrices& up, void* c)
    : desc_(desc), a_(a) {
  check_desc(desc);
  check_device();
  const MatrixSpan rows{.data = a,
                        .rows = std::max<std::int64_t>(desc.row_slots, 1),
                        .cols = desc.k,
                        .row_stride = desc.k};
  params_.a_map = make_operand_map(rows, desc.dtype, desc.block_m);
  if (desc.block_m == 64) params_.few_rows_map = make_operand_map(rows, desc.dtype, kFewTileRows);
  params_.c = c;
  params_.k = static_cast<std::int32_t>(desc.k);
  params_.n = static_cast<std::int32_t>(desc.n);
  params_.activated = desc.activated;
  params_.activation = desc.activation;
  std::vector<CUtensorMap> maps;
  const auto add_maps = [&](std::int32_t box_rows) {
    const auto add_map = [&](const ExpertMatrices& matrices, std::int64_t expert) {
      maps.push_back(make_operand_map({.data = matrices.expert(expert, desc.dtype),
                                       .rows = desc.n,
                                       .cols = desc.k,
                                       .row_stride = matrices.row_stride},
                                      desc.dtype, box_rows));
    };
    for (std::int64_t e = 0; e < desc.num_experts; ++e) {
      if (desc.gated) add_map(gate, e);
      add_map(up, e);
    }
  };
  add_maps(weight_box_rows(desc.block_m));
  const auto num_wide = static_cast<std::int64_t>(maps.size());
  if (desc.gated) params_.narrow_rows = narrow_box_rows(desc.n, desc.block_m);
  if (params_.narrow_rows != 0) add_maps(params_.narrow_rows);
  if (desc.block_m == 64) {
    const std::vector<TileProgress> none(static_cast<std::size_t>(desc.row_slots / desc.block_m));
    progress_ = DeviceBuffer<TileProgress>(std::ssize(none));
    progress_.copy_from(none.data());
    const std::uint32_t first = 0;
    ticket_ = DeviceBuffer<std::uint32_t>(1);
    ticket_.copy_from(&first);
  }
  weight_maps_ = DeviceBuffer<CUtensorMap>(static_cast<std::int64_t>(maps.size()));
  weight_maps_.copy_from(maps.data());
  params_.weight_maps = weight_maps_.data();
  if (params_.narrow_rows != 0) params_.narrow_maps = weight_maps_.data() + num_wide;
}

GroupedGemmParams GroupedGemm::params(const Tile* tiles, const float* row_weights) const {
  GroupedGemmParams params = params_;
  params.tiles = tiles;
  params.row_weights = row_weights;
  return params;
}

void GroupedGemm::launch(const Tile* tiles, const std::int32_t* tile_range,
                         const float* row_weights, GemmGrid grid, Follow follow,
                         cudaStream_t stream) const {
  if (desc_.block_m == 64) {
    return launch_chain(nullptr, tiles, tile_range, row_weights, {}, grid.num_blocks, follow,
                        stream);
  }
  GroupedGemmParams params = this->params(tiles, row_weights);
  params.tile_range = tile_range;
  (desc_.gated ? launch_sm90_grouped_gemm_gated : launch_sm90_grouped_gemm_plain)(
      params, desc_.dtype, grid, follow, stream);
}

void GroupedGemm::launch_with(const GroupedGemm& second, const Tile* tiles,
                              const std::int32_t* tile_range, const float* row_weights,
                              const ProductCall& call, GemmGrid grid, Follow follow,
                              cudaStream_t stream) const {
  check_internal(second.a_ == params_.c && second.desc_.k == desc_.n && !second.desc_.gated &&
                     second.desc_.row_slots == desc_.row_slots &&
                     second.desc_.num_experts == desc_.num_experts &&
                     second.desc_.block_m == desc_.block_m && second.desc_.dtype == desc_.dtype,
                 "[gemm] the second product does not read what the first writes");
  if (desc_.block_m == 64) {
    return launch_chain(&second, tiles, tile_range, row_weights, call, grid.num_blocks, follow,
                        stream);
  }
  launch(tiles, tile_range, row_weights, grid, follow, stream);
  second.launch(tiles, tile_range, nullptr, grid, follow, stream);
}

void GroupedGemm::launch_chain(const GroupedGemm* second, const Tile* tiles,
                               const std::int32_t* tile_range, const float* row_weights,
                               const ProductCall& call, int num_blocks, Follow follow,
                               cudaStream_t stream) const {
  ProductChain chain{.first = params(tiles, row_weights),
                     .second = {},
                     .progress = progress_.data(),
                     .ticket = call.ticket != nullptr ? call.ticket : ticket_.data(),
                     .starts_next_early = call.ticket != nullptr,
                     .abandoned = call.abandoned,
                     .timeout_ns = call.timeout_ns};
  chain.first.tile_range = tile_range;
  if (second != nullptr) {
    chain.second = second->params(tiles, nullptr);
    chain.second.tile_range = tile_range;
  }
  (desc_.gated ? launch_sm90_product_chain_gated : launch_sm90_product_chain_plain)(
      chain, desc_.dtype, num_blocks, follow, stream);
}

}  // namespace comet::cuda
