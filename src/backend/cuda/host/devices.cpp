// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/host/devices.hpp"

#include <cstdlib>
#include <string>

#include "backend/cuda/host/cuda_error.hpp"
#include "base/check.hpp"
#include "comm/device_ranks.hpp"

namespace comet {
namespace cuda {

void ask_for_queues() { setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0); }

std::vector<int> find_hoppers() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  check(status == cudaSuccess && count > 0, ErrorCode::unsupported,
        "[cuda] no GPU: {}; run on cpu, or see comet info",
        status == cudaSuccess ? "the driver lists none" : cudaGetErrorString(status));
  std::vector<int> devices;
  std::string others;
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp properties{};
    check_cuda(cudaGetDeviceProperties(&properties, device), "reading a device's properties");
    if (properties.major == 9 && properties.minor == 0) {
      devices.push_back(device);
    } else {
      others = fmt::format("{} has compute capability {}.{}", properties.name, properties.major,
                           properties.minor);
    }
  }
  check(!devices.empty(), ErrorCode::unsupported,
        "[cuda] no Hopper GPU, which this build's kernels need (9.0): {}", others);
  return devices;
}

}  // namespace cuda

std::vector<GpuInfo> list_gpus() {
  cuda::ask_for_queues();  // a world may follow, and asking for GPUs starts CUDA
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) return {};
  std::vector<GpuInfo> gpus;
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, device) != cudaSuccess) continue;
    gpus.push_back({properties.name, properties.multiProcessorCount,
                    static_cast<std::int64_t>(properties.totalGlobalMem),
                    properties.major == 9 && properties.minor == 0});
  }
  return gpus;
}

}  // namespace comet
