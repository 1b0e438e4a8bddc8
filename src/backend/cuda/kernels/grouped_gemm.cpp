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

auto* choose_launcher(const GroupedGemmDesc& desc) {
  if (desc.block_m == 64) {
    return desc.gated ? launch_sm90_grouped_gemm_gated_m64 : launch_sm90_grouped_gemm_plain_m64;
  }
  return desc.gated ? launch_sm90_grouped_gemm_gated_m128 : launch_sm90_grouped_gemm_plain_m128;
}

}  // namespace

GroupedGemm::GroupedGemm(const GroupedGemmDesc& desc, const void* a, const ExpertMatrices& gate,
                         const ExpertMatrices& up, void* c)
    : dtype_(desc.dtype), launcher_(choose_launcher(desc)) {
  check_desc(desc);
  check_device();
  params_.a_map = make_operand_map({.data = a,
                                    .rows = std::max<std::int64_t>(desc.row_slots, 1),
                                    .cols = desc.k,
                                    .row_stride = desc.k},
                                   dtype_, desc.block_m);
  params_.c = c;
  params_.k = static_cast<std::int32_t>(desc.k);
  params_.n = static_cast<std::int32_t>(desc.n);
  params_.activated = desc.activated;
  params_.activation = desc.activation;
  const auto map_of = [&](const ExpertMatrices& matrices, std::int64_t expert) {
    return make_operand_map({.data = matrices.expert(expert, dtype_),
                             .rows = desc.n,
                             .cols = desc.k,
                             .row_stride = matrices.row_stride},
                            dtype_, weight_box_rows(desc.block_m));
  };
  std::vector<CUtensorMap> maps;
  for (std::int64_t e = 0; e < desc.num_experts; ++e) {
    if (desc.gated) maps.push_back(map_of(gate, e));
    maps.push_back(map_of(up, e));
  }
  weight_maps_ = DeviceBuffer<CUtensorMap>(static_cast<std::int64_t>(maps.size()));
  weight_maps_.copy_from(maps.data());
  params_.weight_maps = weight_maps_.data();
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
  GroupedGemmParams params = this->params(tiles, row_weights);
  params.tile_range = tile_range;
  launcher_(params, dtype_, grid, follow, stream);
}

}  // namespace comet::cuda
