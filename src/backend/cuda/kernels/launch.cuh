// SPDX-License-Identifier: Apache-2.0
// Launches that follow the kernel before them closely: blocks start while that one still runs, and
// wait on the device (programmatic dependent launch, CUDA programming guide, 4.5). A call is a
// chain of kernels of a few microseconds each, of which starting one after the other has ended is a
// good part.
#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "backend/cuda/host/cuda_error.hpp"
#include "backend/cuda/kernels/follow.hpp"

namespace comet::cuda {

/// In all threads of a kernel that launch_kernel launches, before it reads or writes global memory
/// or leaves: waits until the kernels before it on its stream have ended, and sees what they have
/// written. Since all do, what is true of the kernel before is true of those before that one.
/// Products of 64-row tiles (loads_ahead) read the plan, from L2, and weights earlier: when a kernel
/// starts, all but the one before it have ended, since that one waits before it lets it start. Their
/// threads that neither load nor multiply leave without a wait.
__device__ __forceinline__ void wait_for_kernels_before() { cudaGridDependencySynchronize(); }

/// Lets the next kernel's blocks start where there is room, once all of this one's have called it
/// or have ended. They take room of other ranks that share the GPU, so a kernel that waits for
/// other ranks calls it after that or never. Nor does one that fills multiprocessors for long,
/// dispatch or products: blocks of the next would start one by one as its own end, on the
/// multiprocessors that happen to be free, and products run longer for it. Products of 64-row tiles
/// call it, and dispatch before them where no host is waited for: they have no pairs, and use the
/// time to load weights.
__device__ __forceinline__ void let_next_kernel_start() {
  cudaTriggerProgrammaticLaunchCompletion();
}

/// launch_kernel, in clusters of `cluster` blocks, of which `num_blocks` is a multiple.
template <typename... Params, typename... Args>
void launch_clusters(unsigned cluster, void (*kernel)(Params...), unsigned num_blocks,
                     unsigned threads, std::size_t shared_bytes, cudaStream_t stream, Follow follow,
                     const char* what, Args&&... args) {
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (follow == Follow::closely) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {cluster, 1, 1};
  }
  cudaLaunchConfig_t config{};
  config.gridDim = num_blocks;
  config.blockDim = threads;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  check_cuda(cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...), what);
}

/// Queues a kernel that calls wait_for_kernels_before. Throws Error(internal) with `what` if it
/// cannot be launched.
template <typename... Params, typename... Args>
void launch_kernel(void (*kernel)(Params...), unsigned num_blocks, unsigned threads,
                   std::size_t shared_bytes, cudaStream_t stream, Follow follow, const char* what,
                   Args&&... args) {
  launch_clusters(1, kernel, num_blocks, threads, shared_bytes, stream, follow, what,
                  std::forward<Args>(args)...);
}

/// The same of a kernel that begins when all before it on its stream have ended, and need not wait.
template <typename... Params, typename... Args>
void launch_after_all(void (*kernel)(Params...), unsigned num_blocks, unsigned threads,
                      std::size_t shared_bytes, cudaStream_t stream, const char* what,
                      Args&&... args) {
  launch_clusters(1, kernel, num_blocks, threads, shared_bytes, stream, Follow::after_all, what,
                  std::forward<Args>(args)...);
}

}  // namespace comet::cuda
