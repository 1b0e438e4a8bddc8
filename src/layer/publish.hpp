// SPDX-License-Identifier: Apache-2.0
// Publish: the start of a call. Each rank writes its tokens, ids and weights to its own workspace
// and signals the epoch; reading all ranks' headers is the only rendezvous of a call.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "comet/error.hpp"
#include "comet/routing.hpp"
#include "comet/tensor_view.hpp"
#include "comm/world_view.hpp"
#include "layer/workspace.hpp"
#include "layout/layer_dims.hpp"

namespace comet {

/// A fault that only this rank can see: sizes, pointers, ids.
struct InputFault {
  ErrorCode code;
  std::string sentence;
};

/// What is wrong with the sizes and pointers of this rank's inputs, if anything; reads no data.
std::optional<InputFault> find_view_fault(const LayerDims& dims, DType dtype,
                                          const ConstMatrixView& x, const RoutingView& routing,
                                          const MatrixView& y);

/// The first thing wrong with this rank's inputs, ids included, if any.
std::optional<InputFault> find_input_fault(const LayerDims& dims, DType dtype,
                                           const ConstMatrixView& x, const RoutingView& routing,
                                           const MatrixView& y);

/// Writes everything of epoch `epoch` to this rank's workspace, or only the fault.
void publish(Workspace& workspace, const LayerDims& dims, std::uint32_t epoch,
             std::uint64_t config_hash, const ConstMatrixView& x, const RoutingView& routing,
             const std::optional<InputFault>& fault);

/// Signals all ranks that this one has published, and releases what it wrote. To ranks of other
/// hosts it puts the header and ids, and with `all_tokens`, for schedules that send none
/// themselves, all tokens and weights.
void announce(const Workspace& workspace, const LayerDims& dims, std::uint32_t epoch,
              bool all_tokens);

/// Bytes that announce puts to ranks of other hosts in a call of a tiled schedule.
std::int64_t announced_bytes(const LayerDims& dims, std::int64_t tokens, const WorldView& world);

/// What all ranks published.
struct Published {
  std::vector<std::int32_t> tokens;       ///< [world]
  std::vector<const std::uint16_t*> ids;  ///< [world] -> [tokens, topk]
  std::int64_t metadata_bytes_in = 0;     ///< Headers and ids of other ranks.
};

/// Waits for all ranks' headers of `epoch`, and until their metadata would have crossed the link.
/// Throws, on all ranks alike, the first rank's fault or Error(mismatch) if configurations differ;
/// Error(timeout), failing the world, if a rank did not publish in time.
void read_headers(Workspace& workspace, const LayerDims& dims, std::uint32_t epoch,
                  Published& published);

}  // namespace comet
