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

void check_sizes(const GroupedGemmDesc& desc) {
  check(desc.num_experts >= 1 && desc.row_slots >= 0 && desc.row_slots % kGemmBlockM == 0 &&
            desc.row_slots <= INT32_MAX,
        ErrorCode::invalid_argument,
        "[gemm] {} experts and {} row slots: at least 1, and a multiple of {} below 2^31",
        desc.num_experts, desc.row_slots, kGemmBlockM);
  check(desc.k >= 8 && desc.n >= 8 && desc.k % 8 == 0 && desc.n % 8 == 0 && desc.k <= INT32_MAX &&
            desc.n <= INT32_MAX,
        ErrorCode::invalid_argument,
        "[gemm] inner size {} and columns {}: multiples of 8 from 8 on", desc.k, desc.n);
}

}  // namespace

GroupedGemm::GroupedGemm(const GroupedGemmDesc& desc, const void* a, const ExpertMatrices& gate,
                         const ExpertMatrices& up, void* c)
    : gated_(desc.gated) {
  check_sizes(desc);
  check_device();
  params_.a_map = make_operand_map({.data = a,
                                    .rows = std::max<std::int64_t>(desc.row_slots, 1),
                                    .cols = desc.k,
                                    .row_stride = desc.k},
                                   kGemmBlockM);
  params_.c = c;
  params_.k = static_cast<std::int32_t>(desc.k);
  params_.n = static_cast<std::int32_t>(desc.n);
  params_.activated = desc.activated;
  params_.activation = desc.activation;
  const auto map_of = [&](const ExpertMatrices& matrices, std::int64_t expert) {
    return make_operand_map({.data = matrices.expert(expert, DType::bf16),
                             .rows = desc.n,
                             .cols = desc.k,
                             .row_stride = matrices.row_stride},
                            gated_ ? kGemmBlockN / 2 : kGemmBlockN);
  };
  std::vector<CUtensorMap> maps;
  for (std::int64_t e = 0; e < desc.num_experts; ++e) {
    if (gated_) maps.push_back(map_of(gate, e));
    maps.push_back(map_of(up, e));
  }
  weight_maps_ = DeviceBuffer<CUtensorMap>(static_cast<std::int64_t>(maps.size()));
  weight_maps_.copy_from(maps.data());
  params_.weight_maps = weight_maps_.data();
}

void GroupedGemm::launch(const Tile* tiles, const std::int32_t* num_tiles, const float* row_weights,
                         int num_blocks, cudaStream_t stream) const {
  GroupedGemmParams params = params_;
  params.tiles = tiles;
  params.num_tiles = num_tiles;
  params.row_weights = row_weights;
  if (gated_) {
    launch_sm90_grouped_gemm_gated(params, num_blocks, stream);
  } else {
    launch_sm90_grouped_gemm_plain(params, num_blocks, stream);
  }
}

}  // namespace comet::cuda
