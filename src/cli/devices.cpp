// SPDX-License-Identifier: Apache-2.0
#include "cli/devices.hpp"

#include "base/processor.hpp"
#include "layer/backends.hpp"
#include "tune/machine_model.hpp"

namespace comet::cli {

Devices find_devices(Backend backend) {
  require_backend(backend);
  if (backend == Backend::cpu) {
    const int cores = machine_of_device(Backend::cpu, "").workers;
    return {.origin = {.backend = backend, .device = processor_name()}, .workers = cores};
  }
  Devices devices;
  for (const GpuPart& gpu : describe_gpus()) {
    if (!gpu.is_usable || devices.count++ > 0) continue;
    devices.origin = {.backend = backend, .device = gpu.name};
    devices.workers = gpu.multiprocessors;
  }
  return devices;
}

}  // namespace comet::cli
