// SPDX-License-Identifier: Apache-2.0
// RemoteOps: what a call sends to ranks of other hosts, whose memory cannot be read or written.
// Their pulls find the tokens in their mirrors of this rank's workspace, and partials are written
// to the mirror of the home's and then sent from there.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/cpu/engine_call.hpp"
#include "comm/world_view.hpp"

namespace comet {

/// The own tokens of a block that a rank of another host needs: one signal of dispatch.
struct SendPiece {
  std::int32_t destination;
  std::int32_t block;  ///< Own block of tokens.
};

/// In the order in which the destinations use them: by group, then by the step at which this rank
/// is the source that the destination visits, so that a source serves one destination at a time.
void list_sends(const EngineCall& call, const LayerDims& dims, const WorldView& world,
                std::vector<SendPiece>& sends);

/// Bytes of all that send_rows and send_partials send in a call with this plan.
std::int64_t planned_bytes(const Plan& plan, const LayerDims& dims, const WorldView& world);

/// Puts the piece's tokens with their weights, and signals them.
void send_rows(const EngineCall& call, const LayerDims& dims, const WorldView& world,
               const SendPiece& piece);

/// Puts the partials of a block and panel that have been written to the mirror of their home.
void send_partials(const EngineCall& call, const LayerDims& dims, const WorldView& world,
                   const BlockTransfer& block, std::int64_t panel);

}  // namespace comet
