// SPDX-License-Identifier: Apache-2.0
// CallRange: tells profilers which schedule a call has and what was chosen for it.
#pragma once

#include "backend/cuda/layer_engine.hpp"

namespace comet::cuda {

/// While one lives, what its thread queues is in an NVTX range of the domain "comet", for example
/// "comet: panel 512, groups 4, n_c 2/1 blocks". Without a profiler it does nothing.
class CallRange {
 public:
  explicit CallRange(const QueuedCall& call);
  ~CallRange();
  CallRange(const CallRange&) = delete;
  CallRange& operator=(const CallRange&) = delete;
};

}  // namespace comet::cuda
