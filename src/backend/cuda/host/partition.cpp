// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/host/partition.hpp"

#include <cuda.h>

#include <cstdlib>
#include <vector>

#include "backend/cuda/host/cuda_error.hpp"
#include "backend/cuda/host/driver.hpp"
#include "base/check.hpp"

namespace comet::cuda {
namespace {

// Hopper hands out multiprocessors in multiples of eight.
constexpr int kGranularity = 8;
constexpr unsigned kGreenContexts = 12050;  // CUDA 12.5 has all of the functions

template <typename Function>
Function find(const char* name) {
  return reinterpret_cast<Function>(find_driver_function(name, kGreenContexts));
}

int count_multiprocessors(int device) {
  int count = 0;
  check_cuda(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device),
             "counting multiprocessors");
  return count;
}

class WholeDevice final : public Partition {
 public:
  explicit WholeDevice(int device) : multiprocessors_(count_multiprocessors(device)) {
    for (cudaStream_t* const stream : {&stream_, &copy_stream_, &put_stream_}) {
      check_cuda(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking), "making a stream");
    }
  }
  ~WholeDevice() override {
    for (const cudaStream_t stream : {stream_, copy_stream_, put_stream_}) {
      if (stream != nullptr) cudaStreamDestroy(stream);
    }
  }
  WholeDevice(const WholeDevice&) = delete;
  WholeDevice& operator=(const WholeDevice&) = delete;

  int multiprocessors() const noexcept override { return multiprocessors_; }
  cudaStream_t stream() const noexcept override { return stream_; }
  cudaStream_t copy_stream() const noexcept override { return copy_stream_; }
  cudaStream_t put_stream() const noexcept override { return put_stream_; }
  bool owns(cudaStream_t /*stream*/) const override { return true; }

 private:
  int multiprocessors_;
  cudaStream_t stream_ = nullptr;
  cudaStream_t copy_stream_ = nullptr;
  cudaStream_t put_stream_ = nullptr;
};

class GreenPartition final : public Partition {
 public:
  GreenPartition(CUdevice device, CUdevResource resource)
      : multiprocessors_(static_cast<int>(resource.sm.smCount)) {
    CUdevResourceDesc description = nullptr;
    check_driver(find<decltype(&cuDevResourceGenerateDesc)>("cuDevResourceGenerateDesc")(
                     &description, &resource, 1),
                 "describing a partition");
    check_driver(find<decltype(&cuGreenCtxCreate)>("cuGreenCtxCreate")(
                     &context_, description, device, CU_GREEN_CTX_DEFAULT_STREAM),
                 "making a green context");
    const auto create = find<decltype(&cuGreenCtxStreamCreate)>("cuGreenCtxStreamCreate");
    for (CUstream* const stream : {&stream_, &copy_stream_, &put_stream_}) {
      check_driver(create(stream, context_, CU_STREAM_NON_BLOCKING, 0), "making a stream");
    }
  }
  ~GreenPartition() override {
    for (const cudaStream_t stream : {stream_, copy_stream_, put_stream_}) {
      if (stream != nullptr) cudaStreamDestroy(stream);
    }
    if (context_ != nullptr) {
      find<decltype(&cuGreenCtxDestroy)>("cuGreenCtxDestroy")(context_);
    }
  }
  GreenPartition(const GreenPartition&) = delete;
  GreenPartition& operator=(const GreenPartition&) = delete;

  int multiprocessors() const noexcept override { return multiprocessors_; }
  cudaStream_t stream() const noexcept override { return stream_; }
  cudaStream_t copy_stream() const noexcept override { return copy_stream_; }
  cudaStream_t put_stream() const noexcept override { return put_stream_; }
  bool owns(cudaStream_t stream) const override {
    if (stream == stream_ || stream == copy_stream_ || stream == put_stream_) return true;
    CUgreenCtx context = nullptr;
    const auto get = find<decltype(&cuStreamGetGreenCtx)>("cuStreamGetGreenCtx");
    return get(stream, &context) == CUDA_SUCCESS && context == context_;
  }

 private:
  int multiprocessors_;
  CUgreenCtx context_ = nullptr;
  CUstream stream_ = nullptr;
  CUstream copy_stream_ = nullptr;
  CUstream put_stream_ = nullptr;
};

}  // namespace

bool has_mps_limit() {
  const char* const percentage = std::getenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE");
  return percentage != nullptr && *percentage != '\0';
}

std::unique_ptr<Partition> make_partition(int index, int count) {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "finding the current device");
  check_cuda(cudaFree(nullptr), "initialising the device");
  if (count == 1) return std::make_unique<WholeDevice>(device);
  const int all = count_multiprocessors(device);
  const int each = all / count / kGranularity * kGranularity;
  check(each > 0, ErrorCode::unsupported,
        "[cuda] {} ranks on one GPU of {} multiprocessors: at most {}, since each needs {}", count,
        all, all / kGranularity, kGranularity);
  CUdevice number = 0;
  check_driver(find<decltype(&cuDeviceGet)>("cuDeviceGet")(&number, device), "finding a device");
  CUdevResource whole;
  check_driver(find<decltype(&cuDeviceGetDevResource)>("cuDeviceGetDevResource")(
                   number, &whole, CU_DEV_RESOURCE_TYPE_SM),
               "reading the multiprocessors of a device");
  std::vector<CUdevResource> parts(static_cast<std::size_t>(count));
  CUdevResource rest;
  auto made = static_cast<unsigned>(count);
  check_driver(find<decltype(&cuDevSmResourceSplitByCount)>("cuDevSmResourceSplitByCount")(
                   parts.data(), &made, &whole, &rest, 0, static_cast<unsigned>(each)),
               "splitting the multiprocessors of a device");
  check(made == static_cast<unsigned>(count), ErrorCode::unsupported,
        "[cuda] {} partitions of {} multiprocessors: the driver makes only {} of {}", count, each,
        made, all);
  return std::make_unique<GreenPartition>(number, parts[static_cast<std::size_t>(index)]);
}

}  // namespace comet::cuda
