// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/host/preload.hpp"
#include "pattern_kernels.hpp"

namespace comet::node {
namespace {

constexpr int kPatternBlocks = 528;
constexpr int kPatternThreads = 512;

__global__ void fill_pattern_kernel(std::uint32_t* words, std::uint32_t count, std::uint32_t gpu) {
  for (std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count;
       i += gridDim.x * blockDim.x) {
    words[i] = pattern_word(gpu, i);
  }
}

__global__ void find_wrong_kernel(const std::uint32_t* words, std::uint32_t count,
                                  std::uint32_t gpu, WrongWords* wrong) {
  for (std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count;
       i += gridDim.x * blockDim.x) {
    if (words[i] == pattern_word(gpu, i)) continue;
    atomicAdd(&wrong->count, 1ULL);
    atomicMin(&wrong->first, static_cast<unsigned long long>(i));
  }
}

}  // namespace

void launch_fill_pattern(std::uint32_t* words, std::uint32_t count, std::uint32_t gpu,
                         cudaStream_t stream) {
  fill_pattern_kernel<<<kPatternBlocks, kPatternThreads, 0, stream>>>(words, count, gpu);
  cuda::check_cuda(cudaGetLastError(), "launching the pattern");
}

void launch_find_wrong(const std::uint32_t* words, std::uint32_t count, std::uint32_t gpu,
                       WrongWords* wrong, cudaStream_t stream) {
  find_wrong_kernel<<<kPatternBlocks, kPatternThreads, 0, stream>>>(words, count, gpu, wrong);
  cuda::check_cuda(cudaGetLastError(), "launching the check of the pattern");
}

void preload_pattern_kernels() {
  cuda::preload(fill_pattern_kernel);
  cuda::preload(find_wrong_kernel);
}

}  // namespace comet::node
