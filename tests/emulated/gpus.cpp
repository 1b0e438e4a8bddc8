// SPDX-License-Identifier: Apache-2.0
// The one GPU that tests of kernels find here.
#include "comm/device_ranks.hpp"

namespace comet {

std::vector<GpuInfo> list_gpus() { return {GpuInfo{}}; }

}  // namespace comet
