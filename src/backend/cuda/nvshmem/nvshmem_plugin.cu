// SPDX-License-Identifier: Apache-2.0
// libcomet_nvshmem.so: memory that processes share by NVSHMEM, and the kernels that put by it.
#include <cstdio>
#include <cstring>

#include "backend/cuda/nvshmem/nvshmem_job.hpp"
#include "backend/cuda/nvshmem/put_kernels.cuh"

namespace comet::cuda {
namespace {

class Job final : public NvshmemJob {
 public:
  void* allocate(std::size_t bytes) override { return nvshmem_malloc(bytes); }
  void* pointer(void* memory, int rank) override { return nvshmem_ptr(memory, rank); }

  cudaError_t queue_published(const CallParams& params, cudaStream_t stream) override {
    put_published_kernel<<<1, kCarryThreads, 0, stream>>>(params);
    return cudaGetLastError();
  }
  cudaError_t queue_carry(const CallParams& params, cudaStream_t stream) override {
    carry_kernel<<<1, kCarryThreads, 0, stream>>>(params);
    return cudaGetLastError();
  }

  // A kernel's first launch loads it, which may wait for kernels of other ranks.
  static cudaError_t preload() {
    cudaFuncAttributes attributes;
    const cudaError_t status = cudaFuncGetAttributes(&attributes, put_published_kernel);
    return status == cudaSuccess ? cudaFuncGetAttributes(&attributes, carry_kernel) : status;
  }
};

bool make_id(void* id) {
  nvshmemx_uniqueid_t made = NVSHMEMX_UNIQUEID_INITIALIZER;
  const bool is_made = nvshmemx_get_uniqueid(&made) == 0;
  std::memcpy(id, &made, sizeof(made));
  return is_made;
}

void start_job(NvshmemStart* start) {
  static Job job;
  nvshmemx_uniqueid_t id;
  std::memcpy(&id, start->id, sizeof(id));
  nvshmemx_init_attr_t attributes = NVSHMEMX_INIT_ATTR_INITIALIZER;
  int status = nvshmemx_set_attr_uniqueid_args(start->rank, start->size, &id, &attributes);
  if (status == 0) status = nvshmemx_init_attr(NVSHMEMX_INIT_WITH_UNIQUEID, &attributes);
  if (status != 0) {
    std::snprintf(start->error, sizeof(start->error), "NVSHMEM did not start (status %d)", status);
    return;
  }
  const cudaError_t loaded = Job::preload();
  if (loaded != cudaSuccess) {
    std::snprintf(start->error, sizeof(start->error), "its kernels cannot be loaded: %s",
                  cudaGetErrorString(loaded));
    return;
  }
  start->job = &job;
}

constexpr NvshmemFunctions kFunctions{.call_bytes = sizeof(CallParams),
                                      .id_bytes = sizeof(nvshmemx_uniqueid_t),
                                      .make_id = make_id,
                                      .start = start_job};

}  // namespace
}  // namespace comet::cuda

extern "C" __attribute__((visibility("default"))) const comet::cuda::NvshmemFunctions*
comet_nvshmem_functions() {
  return &comet::cuda::kFunctions;
}
