// SPDX-License-Identifier: Apache-2.0
// What each worker did and when, as data; writers for trace viewers and pictures.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace comet {

/// What an interval of a trace was spent on.
enum class TraceKind : std::uint8_t {
  publish,      ///< Writing x, ids and weights to the symmetric buffer.
  headers,      ///< Waiting for all ranks' headers and metadata.
  plan,         ///< Building the plan.
  gather,       ///< Copying own tokens to their rows.
  pull,         ///< Copying delivered tokens of another rank to their rows.
  first_gemm,   ///< One (tile, column tile) of the first GEMM with activation.
  second_gemm,  ///< One (tile, panel) of the second GEMM.
  send,         ///< Handing a block of own tokens to the network, for a rank on another host.
  push,         ///< Summing and writing one block's partials of a panel.
  home_sum,     ///< Summing all sources' partials of one own block and panel.
  wait,         ///< A worker found nothing ready.
  link_pull,    ///< A transfer of dispatch occupying the (paced) link.
  link_push,    ///< A transfer of combine occupying the (paced) link.
};

/// Lower-case name, for example "first_gemm".
std::string_view to_string(TraceKind kind) noexcept;

/// One interval. Fields that do not apply are -1.
struct TraceEvent {
  TraceKind kind = TraceKind::wait;  ///< What it was spent on.
  std::int32_t rank = 0;             ///< Who did it.
  std::int32_t worker = 0;           ///< Worker index; for link_* the worker that booked.
  std::int64_t begin_ns = 0;         ///< std::chrono::steady_clock, nanoseconds.
  std::int64_t end_ns = 0;           ///< Same clock, >= begin_ns.
  std::int32_t group = -1;           ///< Group of tokens.
  std::int32_t tile = -1;            ///< Row tile.
  std::int32_t panel = -1;           ///< Column tile of the first GEMM, or panel of the second.
  std::int32_t peer = -1;            ///< Rank at the other end of a transfer.
  std::int32_t block = -1;           ///< Block of 64 tokens at the home rank.
};

/// The events of one rank's calls, in no particular order.
using Trace = std::vector<TraceEvent>;

}  // namespace comet
