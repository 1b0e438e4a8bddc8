// SPDX-License-Identifier: Apache-2.0
// The one place that knows which compiler reads a header: plan/ and layout/ functions run on hosts
// and devices alike.
#pragma once

#if defined(__CUDACC__)
#define COMET_HOST_DEVICE __host__ __device__
#else
#define COMET_HOST_DEVICE
#endif
