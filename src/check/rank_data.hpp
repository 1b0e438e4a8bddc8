// SPDX-License-Identifier: Apache-2.0
// RankData: what one rank of a case reads and writes, where its layers can. On cpu these are the
// case's own buffers; on cuda copies in device memory, all made before the first call.
#pragma once

#include <cstdint>
#include <vector>

#include "check/case_data.hpp"
#include "check/random_case.hpp"
#include "layer/rank_memory.hpp"

namespace comet {

using Calls = std::vector<std::vector<RankCall>>;  ///< [call][rank]

/// Arguments of one forward call.
struct CallArguments {
  ConstMatrixView x;
  RoutingView routing;
  MatrixView y;
};

class RankData {
 public:
  RankData(const Case& c, const CaseWeights& weights, const Calls& calls, World& world);

  const MoeWeights& weights() const noexcept { return weights_; }

  /// The call's tokens; y is `y`, or on cuda memory of this object that begin() fills with it.
  CallArguments arguments(std::int64_t call, Bytes& y) const;
  /// cuda: the same with room for all tokens that the case allows, T to be read on the device.
  CallArguments roomy_arguments(std::int64_t call) const;
  /// Rows of roomy_arguments.
  std::int64_t room(std::int64_t call) const;

  /// cuda: a word that says `tokens`, for RoutingView::device_tokens.
  const std::int32_t* device_tokens(std::int64_t tokens);

  /// Copies `y` to where a call writes it, and back once the rank's streams are done.
  void begin(const Bytes& y);
  void end(Bytes& y);

 private:
  struct Placed {
    const void* x;
    const void* ids;
    const void* weights;
  };
  void place(const RankCall& call);

  const Case& c_;
  const Calls& calls_;
  World& world_;
  const int rank_;
  RankMemory memory_;
  MoeWeights weights_;
  std::vector<Placed> placed_;  // [call]
  std::byte* y_ = nullptr;      // cuda
  void* tokens_ = nullptr;      // cuda
};

}  // namespace comet
