// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/device/ptx.cuh"
#include "backend/cuda/host/preload.hpp"
#include "link_kernels.hpp"

namespace comet::node {
namespace {

constexpr int kLanes = 32;
constexpr int kBuffers = 8;  // of a warp: one is stored while the others are loaded
constexpr int kWarpBytes = kBuffers * kPieceBytes;
constexpr std::uint32_t kPieces = kBufferBytes / kPieceBytes;
static_assert((kPieces & (kPieces - 1)) == 0, "offset_of takes the remainder by a mask");

__device__ __forceinline__ std::int64_t offset_of(std::uint32_t piece) {
  return std::int64_t{piece & (kPieces - 1)} * kPieceBytes;
}

__device__ __forceinline__ int lane_of_warp() { return static_cast<int>(threadIdx.x) % kLanes; }
__device__ __forceinline__ int warp_of_block() { return static_cast<int>(threadIdx.x) / kLanes; }

// Piece `unit` of the calling warp is warp_of_grid() + unit * warps_of_grid().
__device__ __forceinline__ std::uint32_t warps_of_grid() { return gridDim.x * blockDim.x / kLanes; }
__device__ __forceinline__ std::uint32_t warp_of_grid() {
  return (blockIdx.x * blockDim.x + threadIdx.x) / kLanes;
}

// One thread. `barriers` are kBuffers initialised with one arrival.
__device__ __forceinline__ void pull_pieces(const LinkWork& work, std::uint32_t buffers,
                                            std::uint32_t barriers) {
  const std::uint32_t first = warp_of_grid();
  const std::uint32_t step = warps_of_grid();
  std::uint32_t loaded = 0;
#pragma unroll 1
  for (std::uint32_t unit = 0; unit < work.pieces_per_warp; ++unit) {
    for (; loaded < work.pieces_per_warp && loaded - unit < kBuffers - 1; ++loaded) {
      const std::uint32_t buffer = loaded % kBuffers;
      const std::uint32_t barrier = barriers + buffer * 8;
      cuda::mbarrier_expect(barrier, kPieceBytes);
      cuda::bulk_load(buffers + buffer * kPieceBytes, work.from + offset_of(first + loaded * step),
                      kPieceBytes, barrier);
    }
    const std::uint32_t buffer = unit % kBuffers;
    cuda::mbarrier_wait(barriers + buffer * 8, unit / kBuffers % 2);
    cuda::bulk_store(work.to + offset_of(first + unit * step), buffers + buffer * kPieceBytes,
                     kPieceBytes);
    cuda::bulk_commit();
    // Of the stores before, all but the last have read their buffers: one more may be loaded.
    cuda::bulk_wait_read<1>();
  }
  cuda::bulk_wait_all();
}

__global__ void __launch_bounds__(kMostWarps* kLanes, 1) pull_kernel(LinkWork work) {
  extern __shared__ __align__(128) std::byte buffers[];  // [warps of the block, kWarpBytes]
  __shared__ std::uint64_t barriers[kMostWarps][kBuffers];
  if (lane_of_warp() != 0) return;
  const int warp = warp_of_block();
  const std::uint32_t barrier = cuda::shared_address(barriers[warp]);
  for (int i = 0; i < kBuffers; ++i) cuda::mbarrier_init(barrier + i * 8, 1);
  cuda::mbarrier_init_fence();
  cuda::fence_proxy_async_global();  // `from` was written by ordinary stores
  pull_pieces(work, cuda::shared_address(buffers + warp * kWarpBytes), barrier);
}

__global__ void __launch_bounds__(kMostWarps* kLanes, 1) push_kernel(LinkWork work) {
  constexpr int kUnroll = kPieceBytes / (kLanes * static_cast<int>(sizeof(uint4)));
  static_assert(kUnroll == 4);
  const int lane = lane_of_warp();
  const std::uint32_t step = warps_of_grid();
  std::uint32_t piece = warp_of_grid();
#pragma unroll 1
  for (std::uint32_t unit = 0; unit < work.pieces_per_warp; ++unit, piece += step) {
    const auto* from = reinterpret_cast<const uint4*>(work.from + offset_of(piece)) + lane;
    auto* to = reinterpret_cast<uint4*>(work.to + offset_of(piece)) + lane;
    uint4 values[kUnroll];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) values[i] = __ldcs(from + i * kLanes);
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) to[i * kLanes] = values[i];
  }
}

}  // namespace

void launch_pull(const LinkWork& work, int blocks, int warps, cudaStream_t stream) {
  pull_kernel<<<blocks, warps * kLanes, warps * kWarpBytes, stream>>>(work);
  cuda::check_cuda(cudaGetLastError(), "launching a pull");
}

void launch_push(const LinkWork& work, int blocks, int warps, cudaStream_t stream) {
  push_kernel<<<blocks, warps * kLanes, 0, stream>>>(work);
  cuda::check_cuda(cudaGetLastError(), "launching a push");
}

void preload_link_kernels() {
  cuda::preload(pull_kernel);
  cuda::preload(push_kernel);
  cuda::check_cuda(cudaFuncSetAttribute(pull_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        kMostWarps * kWarpBytes),
                   "reserving shared memory for pulls");
}

}  // namespace comet::node
