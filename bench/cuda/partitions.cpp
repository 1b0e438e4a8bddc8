// SPDX-License-Identifier: Apache-2.0
#include "partitions.hpp"

#include <algorithm>

#include "backend/cuda/host/cuda_error.hpp"
#include "base/check.hpp"

namespace comet::cuda {
namespace {

// A driver function as this build's cuda.h declares it; nothing links libcuda.
template <typename Function>
Function driver_function(const char* name) {
  void* symbol = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t status =
      cudaGetDriverEntryPointByVersion(name, &symbol, CUDA_VERSION, cudaEnableDefault, &found);
  check(status == cudaSuccess && found == cudaDriverEntryPointSuccess, ErrorCode::unsupported,
        "[partitions] the driver has no {}: this build needs that of CUDA {}.{}", name,
        CUDA_VERSION / 1000, CUDA_VERSION % 1000 / 10);
  return reinterpret_cast<Function>(symbol);
}

void check_driver(CUresult result, const char* what) {
  check(result == CUDA_SUCCESS, ErrorCode::unsupported, "[partitions] {}: CUDA error {}", what,
        static_cast<int>(result));
}

#define COMET_DRIVER(name) driver_function<decltype(&name)>(#name)

}  // namespace

Partitions::Partitions(int count, int multiprocessors) : multiprocessors_(multiprocessors) {
  destroy_ = COMET_DRIVER(cuGreenCtxDestroy);
  check_cuda(cudaFree(nullptr), "starting the device");
  int ordinal = 0;
  check_cuda(cudaGetDevice(&ordinal), "finding the current device");
  CUdevice device = 0;
  check_driver(COMET_DRIVER(cuDeviceGet)(&device, ordinal), "finding the device");
  CUdevResource all = {};
  check_driver(COMET_DRIVER(cuDeviceGetDevResource)(device, &all, CU_DEV_RESOURCE_TYPE_SM),
               "asking for the device's multiprocessors");
  all_multiprocessors_ = static_cast<int>(all.sm.smCount);
  std::vector<CUdevResource> groups(static_cast<std::size_t>(count));
  CUdevResource rest = {};
  auto num_groups = static_cast<unsigned>(count);
  check_driver(COMET_DRIVER(cuDevSmResourceSplitByCount)(groups.data(), &num_groups, &all, &rest, 0,
                                                         static_cast<unsigned>(multiprocessors)),
               "splitting the multiprocessors");
  check(num_groups == static_cast<unsigned>(count) &&
            groups[0].sm.smCount == static_cast<unsigned>(multiprocessors),
        ErrorCode::unsupported,
        "[partitions] {} of {} multiprocessors: the device's {} give {} of {}", count,
        multiprocessors, all_multiprocessors_, num_groups, groups[0].sm.smCount);
  try {
    check_cuda(cudaStreamCreateWithFlags(&whole_, cudaStreamNonBlocking), "making a stream");
    check_cuda(cudaEventCreate(&begin_), "making an event");
    check_cuda(cudaEventCreate(&middle_), "making an event");
    for (CUdevResource& group : groups) {
      Partition& partition = partitions_.emplace_back();
      CUdevResourceDesc resources = nullptr;
      check_driver(COMET_DRIVER(cuDevResourceGenerateDesc)(&resources, &group, 1),
                   "describing a partition");
      check_driver(COMET_DRIVER(cuGreenCtxCreate)(&partition.context, resources, device,
                                                  CU_GREEN_CTX_DEFAULT_STREAM),
                   "making a green context");
      check_driver(COMET_DRIVER(cuGreenCtxStreamCreate)(&partition.stream, partition.context,
                                                        CU_STREAM_NON_BLOCKING, 0),
                   "making a stream of a green context");
      check_cuda(cudaEventCreate(&partition.end), "making an event");
    }
  } catch (...) {
    release();
    throw;
  }
}

Partitions::~Partitions() { release(); }

// Streams before their contexts, which would not free them.
void Partitions::release() noexcept {
  for (const Partition& partition : partitions_) {
    if (partition.end != nullptr) cudaEventDestroy(partition.end);
    if (partition.stream != nullptr) cudaStreamDestroy(partition.stream);
    if (partition.context != nullptr) destroy_(partition.context);
  }
  if (begin_ != nullptr) cudaEventDestroy(begin_);
  if (middle_ != nullptr) cudaEventDestroy(middle_);
  if (whole_ != nullptr) cudaStreamDestroy(whole_);
}

// Behind middle_, which all partitions wait for.
void Partitions::start(const std::vector<Launch>& works, int repetitions) const {
  check(works.size() == partitions_.size() && repetitions >= 1, ErrorCode::invalid_argument,
        "[partitions] {} works {} times: there are {} partitions", works.size(), repetitions,
        partitions_.size());
  check_cuda(cudaEventRecord(middle_, whole_), "recording an event");
  for (const Partition& partition : partitions_) {
    check_cuda(cudaStreamWaitEvent(partition.stream, middle_, 0), "waiting for an event");
  }
  for (int i = 0; i < repetitions; ++i) {
    for (std::size_t p = 0; p < works.size(); ++p) {
      works[p](multiprocessors_, partitions_[p].stream);
    }
  }
  for (const Partition& partition : partitions_) {
    check_cuda(cudaEventRecord(partition.end, partition.stream), "recording an event");
  }
}

float Partitions::wait_ms() const {
  float last_ms = 0;
  for (const Partition& partition : partitions_) {
    check_cuda(cudaEventSynchronize(partition.end), "running the partitions");
    float ms = 0;
    check_cuda(cudaEventElapsedTime(&ms, middle_, partition.end), "reading the time");
    last_ms = std::max(last_ms, ms);
  }
  return last_ms;
}

void Partitions::run(const std::vector<Launch>& works) const {
  start(works, 1);
  wait_ms();
}

// While the whole GPU computes, the host queues the partitions' launches: its time is in neither
// figure.
PartitionTimes Partitions::time(const std::vector<Launch>& works, int repetitions) const {
  check_cuda(cudaEventRecord(begin_, whole_), "recording an event");
  for (int i = 0; i < repetitions; ++i) {
    for (const Launch& work : works) work(all_multiprocessors_, whole_);
  }
  start(works, repetitions);
  const float together_ms = wait_ms();
  float whole_ms = 0;
  check_cuda(cudaEventElapsedTime(&whole_ms, begin_, middle_), "reading the time");
  const float us = 1000.0F / static_cast<float>(repetitions);
  return {whole_ms * us, together_ms * us};
}

}  // namespace comet::cuda
