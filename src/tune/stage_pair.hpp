// SPDX-License-Identifier: Apache-2.0
// StagePair: one time for each of the two stages of a layer.
#pragma once

namespace comet {

/// A time of each of the two stages: dispatch_gemm and gemm_combine.
struct StagePair {
  double first = 0;
  double second = 0;
  double sum() const noexcept { return first + second; }
};

/// Stage by stage.
inline StagePair operator+(const StagePair& a, const StagePair& b) noexcept {
  return {a.first + b.first, a.second + b.second};
}

}  // namespace comet
