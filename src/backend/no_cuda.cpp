// SPDX-License-Identifier: Apache-2.0
// The CUDA backend where it is not built: everything that would need it says how to get it.
#include "backend/cuda/layer_engine.hpp"
#include "base/check.hpp"
#include "comm/device_ranks.hpp"

namespace comet {
namespace {

[[noreturn]] void refuse() {
  fail(ErrorCode::unsupported,
       "[cuda] this build has no CUDA backend: build with 'make cuda', or run on cpu");
}

}  // namespace

std::unique_ptr<DeviceRanks> make_device_ranks(int /*size*/, const LocalWorldOptions& /*options*/) {
  refuse();
}

std::unique_ptr<ProcessDevice> make_process_device(const ProcessDeviceOptions& /*options*/) {
  refuse();
}
std::string why_no_nvshmem() { return "it needs a build with CUDA: 'make cuda'"; }

std::vector<GpuInfo> list_gpus() { return {}; }
bool is_cuda_built() noexcept { return false; }

namespace cuda {

std::unique_ptr<LayerEngine> make_layer_engine(const LayerEngineParams& /*params*/) { refuse(); }
void choose_device_tile(LayerDims& /*dims*/) { refuse(); }

}  // namespace cuda
}  // namespace comet
