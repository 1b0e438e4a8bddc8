// SPDX-License-Identifier: Apache-2.0
// The kernels of a call besides its plan and its products: publish, reading headers, dispatch,
// combine, and the end. All sizes that a replayed graph may change (T, ids, epoch) are read on the
// device.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "backend/cuda/kernels/follow.hpp"
#include "backend/cuda/kernels/grouped_gemm.hpp"
#include "backend/cuda/kernels/plan_kernels.hpp"
#include "backend/cuda/kernels/trace_ring.hpp"
#include "comm/device_ranks.hpp"
#include "layout/call_fault.hpp"
#include "layout/layer_dims.hpp"
#include "layout/panels.hpp"
#include "layout/run_config.hpp"
#include "layout/workspace_layout.hpp"

namespace comet::cuda {

/// Why a call was skipped by all ranks.
enum class CallFaultKind : std::int32_t {
  none,
  published,  ///< Rank `rank` published it: its sentence, or its detail.
  mismatch,   ///< Ranks 0 and `rank` run different things.
  capacity,   ///< EP rank `rank` needs detail.a rows.
};

struct CallFault {
  CallFaultKind kind = CallFaultKind::none;
  std::int32_t code = 0;  ///< 1 + ErrorCode
  std::int32_t rank = 0;
  InputFaultDetail detail;
};

/// When a call reached what, nanoseconds of the global timer.
struct CallTimes {
  unsigned long long begin_ns = 0;
  unsigned long long published_ns = 0;     ///< All ranks have been signalled.
  unsigned long long tokens_begin_ns = 0;  ///< Of launch_copy_tokens, 0 without it.
  unsigned long long tokens_end_ns = 0;    ///< The own tokens are there.
  unsigned long long planned_ns = 0;
  unsigned long long dispatched_ns = 0;  ///< The last group's last row.
  unsigned long long computed_ns = 0;    ///< The last group's products.
  unsigned long long end_ns = 0;
};

/// What the device tells the host of an engine's calls, in pinned host memory.
struct CallReport {
  // Of the call that ended last.
  std::uint32_t epoch = 0;
  std::int32_t num_rows = 0;
  std::int32_t num_tiles = 0;
  std::int32_t tokens_in = 0;
  std::int32_t tokens_out = 0;
  std::int64_t metadata_bytes_in = 0;
  CallTimes times;
  // The first fault since the host has cleared it.
  CallFault fault;
  std::uint32_t fault_epoch = 0;
  char sentence[sizeof(CallHeader::sentence)] = {};
};

/// What a rank's header said, kept until all have been read.
struct SeenHeader {
  std::int32_t tokens;
  std::int32_t fault;
  std::uint64_t config_hash;
};

inline constexpr std::uint32_t kNoBadIndex = 0xffffffffU;

/// One rank's present call, in device memory.
struct CallState {
  std::uint32_t epoch = 0;
  std::uint32_t done_blocks = 0;          ///< See is_last_block; 0 between kernels.
  std::uint32_t copied_blocks = 0;        ///< The same of launch_copy_tokens, beside others.
  std::uint32_t bad_index = kNoBadIndex;  ///< First choice with an id out of range.
  std::uint32_t abandoned = 0;  ///< 1 once a wait has failed: what is left of the call leaves.
  std::int32_t own_tokens = 0;  ///< T of the own header: 0 if that has a fault.
  std::int32_t own_fault = 0;   ///< Its fault.
  CallFault fault;
  std::int64_t metadata_bytes_in = 0;
  CallTimes times;
  std::int32_t all_tiles[2] = {};  ///< {0, tiles} of the call that ended last, for its replay.
};

/// Work is taken by ticket, not by block index, so that a slow block takes less. One counter each
/// per group: pieces of dispatch, pushes, home sums, pieces of products.
struct Tickets {
  std::uint32_t dispatch;
  std::uint32_t push;
  std::uint32_t home;
  std::uint32_t products;  ///< Of 64-row tiles.
};

/// What all kernels of a call get. Pointers are device memory unless they say otherwise.
struct CallParams {
  DeviceWorld world;
  LayerDims dims;
  RunConfig config;
  Panels panels;  ///< Of `config`.
  WorkspaceLayout layout = {};
  std::byte* const* peers = nullptr;  ///< [world] each rank's workspace
  DevicePlanView plan = {};
  CallState* state = nullptr;
  Tickets* tickets = nullptr;        ///< [groups]
  TileProgress* progress = nullptr;  ///< [row tiles] of products by one kernel, else null
  SeenHeader* seen = nullptr;        ///< [world]
  CallReport* report = nullptr;      ///< Pinned host memory.
  std::int32_t* tokens = nullptr;    ///< [world] T of each rank; all 0 in a call that is skipped
  std::uint16_t* ids = nullptr;      ///< [world, ids_stride] all ranks' ids, copied here once
  std::int64_t ids_stride = 0;
  TraceRing trace;
  /// Whether x is copied to the workspace, where other ranks read it. One rank alone needs that
  /// only if its rows are not aligned.
  bool copies_x = true;
  /// launch_copy_tokens does so beside the plan; else launch_publish does. The same on all ranks.
  bool copies_beside_plan = false;
  /// Where this rank reads its own tokens: rows aligned to 16 bytes, the caller's or the copies.
  const std::byte* own_x = nullptr;
  std::int64_t own_x_stride_bytes = 0;

  // The caller's.
  const std::byte* x = nullptr;
  std::int64_t x_stride_bytes = 0;
  const void* topk_ids = nullptr;
  bool ids_are_64 = false;
  const void* topk_weights = nullptr;  ///< Of weight_type.
  DType weight_type = DType::f32;
  const std::int32_t* device_tokens = nullptr;
  std::int32_t max_call_tokens = 0;  ///< T, or the most that *device_tokens may say.
  std::byte* y = nullptr;
  std::int64_t y_stride_bytes = 0;
  std::int32_t y_rows = 0;
  std::uint64_t config_hash = 0;
  std::int32_t host_fault = 0;  ///< 1 + ErrorCode of what the host has found, or 0.

  // The rank's buffers.
  std::byte* rows = nullptr;       ///< [row slots, H]
  float* row_weights = nullptr;    ///< [row slots]
  const std::byte* out = nullptr;  ///< [row slots, H]
  bool weights_after_down = true;
};

/// The sentence of a host's fault, as a kernel argument.
struct FaultSentence {
  char text[sizeof(CallHeader::sentence)];
};

/// Writes ids, weights and header to the own workspace, and the tokens unless they are copied
/// beside the plan; advances the epoch and signals all ranks. One rank alone signals nobody: what
/// the call is, which launch_read_headers finds of others, is written at once.
void launch_publish(const CallParams& params, const FaultSentence& sentence, int num_blocks,
                    cudaStream_t stream);

/// launch_publish, and launch_build_plan of `params.plan`, by one kernel of a single block. False,
/// and nothing is queued, unless one rank is alone, need not copy x, and has so few tokens that one
/// kernel makes their plan. The problem's tokens and ids are those of `params`. Throws as
/// launch_build_plan does.
bool launch_small_call(const CallParams& params, const FaultSentence& sentence,
                       const DevicePlanProblem& problem, const OrderProblem& wanted,
                       cudaStream_t stream);

/// After launch_publish, on a stream beside that of the kernels up to the plan: writes the tokens
/// to the own workspace, signals all ranks, and waits for the tokens of those whose memory is
/// within reach: what comes after it can read them all. It signals before it waits, and what it
/// waits for comes after nothing but a rank's publish.
void launch_copy_tokens(const CallParams& params, int num_blocks, cudaStream_t stream);

/// Waits for all ranks' headers, copies their ids here, and decides whether the call is skipped.
void launch_read_headers(const CallParams& params, cudaStream_t stream);

/// Skips the call if an EP rank needs more than `max_rows` row slots. `counts` [groups, E] and
/// `totals` [EP] are scratch.
struct CapacityCheck {
  const std::int32_t* ep_rank_of = nullptr;  ///< [E]
  std::uint32_t* counts = nullptr;
  unsigned long long* totals = nullptr;
  std::int64_t max_rows = 0;
};
void launch_check_capacity(const CallParams& params, const CapacityCheck& check,
                           cudaStream_t stream);

/// Copies the tokens of group `group` to their rows, on `num_blocks` blocks, one per
/// multiprocessor; returns when the link would have delivered them.
void launch_dispatch(const CallParams& params, std::int32_t group, int num_blocks, Follow follow,
                     cudaStream_t stream);

/// Sums rows to partials, puts them to their home ranks, and sums the own tokens' partials to y.
void launch_combine_bf16(const CallParams& params, std::int32_t group, int num_blocks,
                         Follow follow, cudaStream_t stream);
void launch_combine_f16(const CallParams& params, std::int32_t group, int num_blocks, Follow follow,
                        cudaStream_t stream);

/// Reports the call, or fills y with NaN if it was skipped or abandoned.
void launch_end_call(const CallParams& params, int num_blocks, Follow follow, cudaStream_t stream);

/// Leaves when world.start_size such kernels have been reached, or the world fails or its time is
/// over; then it sets `*missed`, unless that is null.
void launch_start_line(const DeviceWorld& world, std::uint32_t* missed, cudaStream_t stream);

/// Writes the global timer to `*stamp`, which may be pinned host memory.
void launch_stamp(unsigned long long* stamp, cudaStream_t stream);

/// Loads all kernels of this file on the current device: a first launch may wait for kernels that
/// run, and those for this rank.
void preload_call_kernels();

}  // namespace comet::cuda
