// SPDX-License-Identifier: Apache-2.0
// The driver's own functions, looked up at run time, so that nothing links libcuda and a binary
// starts where there is no driver.
#pragma once

#include <cuda.h>

namespace comet::cuda {

/// Address of driver function `name` as of CUDA `version` (12040 is 12.4). Throws
/// Error(unsupported) if there is no driver, or an older one.
void* find_driver_function(const char* name, unsigned version);

/// Throws Error(internal) "[cuda] <what>: <the driver's words>" unless `result` is CUDA_SUCCESS.
void check_driver(CUresult result, const char* what);

}  // namespace comet::cuda
