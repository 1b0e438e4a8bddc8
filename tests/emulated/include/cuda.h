// SPDX-License-Identifier: Apache-2.0
// What headers of kernels that are emulated name of CUDA's driver interface; none of it is used.
#pragma once

struct CUtensorMap {
  unsigned long long opaque[16];
};
