// SPDX-License-Identifier: Apache-2.0
// Where kernels record what they do, in device memory.
#pragma once

#include <cstdint>

#include "comet/trace.hpp"

namespace comet::cuda {

/// A TraceEvent by the global timer.
struct TraceRecord {
  unsigned long long begin_ns;
  unsigned long long end_ns;
  TraceKind kind;
  std::int16_t peer;
  std::int32_t worker;
  std::int32_t tile;
  std::int32_t panel;
};

/// `records` null: nothing is recorded.
struct TraceRing {
  TraceRecord* records = nullptr;
  std::uint32_t* count = nullptr;  ///< Events of the call; those beyond the capacity are lost.
  std::uint32_t capacity = 0;
};

}  // namespace comet::cuda
