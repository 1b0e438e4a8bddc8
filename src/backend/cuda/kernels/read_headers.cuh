// SPDX-License-Identifier: Apache-2.0
// What a rank reads of all that have published: their headers and ids; and what the call is then.
#pragma once

#include <cstddef>

#include "backend/cuda/device/bounded_wait.cuh"
#include "backend/cuda/device/paced_clock.cuh"
#include "backend/cuda/kernels/call_kernels.hpp"
#include "comet/error.hpp"

namespace comet::cuda {

constexpr int kLanes = 32;
constexpr unsigned kAllLanes = 0xffffffffU;

/// What a healthy call reads of a header, see layer/publish.cpp.
constexpr std::int64_t kHeaderBytes = offsetof(CallHeader, sentence);

__device__ __forceinline__ CallHeader* header_of(const CallParams& p, std::int32_t rank,
                                                 std::uint32_t epoch) {
  return reinterpret_cast<CallHeader*>(p.peers[rank] + p.layout.header[epoch & 1U]);
}

__device__ __forceinline__ std::uint32_t* published_slot(const CallParams& p, std::int32_t at,
                                                         std::int32_t source) {
  return reinterpret_cast<std::uint32_t*>(p.peers[at] + p.layout.published) + source;
}

/// A rank's header without its sentence.
struct HeaderHead {
  std::uint32_t epoch;
  SeenHeader seen;
};

/// The epoch says of all of it whether it is the call's: of what comes by one load of one sector,
/// and of a fault, which does not, by another look.
__device__ __forceinline__ HeaderHead read_head(const CallHeader* header) {
  static_assert(offsetof(CallHeader, epoch) == 0 && offsetof(CallHeader, tokens) == 4 &&
                offsetof(CallHeader, config_hash) == 8);
  const uint4 first = __ldcv(reinterpret_cast<const uint4*>(header));
  HeaderHead head{first.x,
                  {static_cast<std::int32_t>(first.y), __ldcv(&header->fault),
                   first.z | std::uint64_t{first.w} << 32}};
  if (head.seen.fault != 0) {
    __threadfence_system();
    head.epoch = load_relaxed_system(&header->epoch);
  }
  return head;
}

/// A part of what is read of a source, by one of `count` thread blocks.
struct SourcePart {
  std::int32_t index;
  std::int32_t count;
};

/// 16-byte words of ids that a thread has on their way at once, since each load takes microseconds.
constexpr int kIdBatch = 8;

/// A part of another rank's ids, whole words: regions and strides are rounded up.
template <int kThreads>
__device__ __forceinline__ void copy_ids(uint4* to, const uint4* from, std::int64_t bytes,
                                         SourcePart part) {
  const auto words = static_cast<std::int32_t>((bytes + 15) / 16);
  const std::int32_t words_of_part = (words + part.count - 1) / part.count;
  const std::int32_t begin = part.index * words_of_part;
  const std::int32_t end = min(begin + words_of_part, words);
#pragma unroll 1
  for (auto first = begin + static_cast<std::int32_t>(threadIdx.x); first < end;
       first += kIdBatch * kThreads) {
    uint4 batch[kIdBatch];
#pragma unroll
    for (int i = 0; i < kIdBatch; ++i) {
      if (first + i * kThreads < end) batch[i] = __ldcv(from + first + i * kThreads);
    }
#pragma unroll
    for (int i = 0; i < kIdBatch; ++i) {
      if (first + i * kThreads < end) to[first + i * kThreads] = batch[i];
    }
  }
}

/// Metadata of the rank at `source`: its header, and a part of another rank's ids to the own copy.
/// All kThreads threads of a block.
template <int kThreads>
__device__ __forceinline__ void read_source(const CallParams& p, std::int32_t source,
                                            std::uint32_t epoch, SourcePart part) {
  const auto [header_epoch, seen] = read_head(header_of(p, source, epoch));
  if (header_epoch != epoch) {
    // A process that has died since it signalled leaves memory that may hold anything by now: what
    // it seems to say must not pass for its fault. Others say that it is gone.
    if (threadIdx.x != 0) return;
    wait_for_failure(p.world, {.stage = Stage::publish, .epoch = epoch, .source = source},
                     header_epoch);
    p.state->abandoned = 1;
    return;
  }
  const auto most = static_cast<std::int32_t>(p.dims.max_tokens);
  const std::int32_t tokens = seen.tokens < 0 ? 0 : seen.tokens > most ? most : seen.tokens;
  const bool is_own = source == p.world.rank;
  const std::int64_t bytes = is_own ? 0 : std::int64_t{tokens} * p.dims.topk * 2;
  copy_ids<kThreads>(reinterpret_cast<uint4*>(p.ids + source * p.ids_stride),
                     reinterpret_cast<const uint4*>(p.peers[source] + p.layout.ids[epoch & 1U]),
                     bytes, part);
  if (threadIdx.x != 0 || part.index != 0) return;
  p.seen[source] = {tokens, seen.fault, seen.config_hash};
  if (is_own) return;
  atomicAdd(reinterpret_cast<unsigned long long*>(&p.state->metadata_bytes_in),
            static_cast<unsigned long long>(kHeaderBytes + bytes));
  sleep_until(book_transfer(p.world, source, p.world.rank, kHeaderBytes + bytes));
}

/// The first rank's fault, or a rank that runs something else than rank 0. One warp, a rank or more
/// for each lane; all lanes return the same.
__device__ __forceinline__ CallFault find_call_fault(const CallParams& p, std::uint32_t epoch) {
  std::int32_t faulty = INT32_MAX;
  std::int32_t other = INT32_MAX;
  const std::uint64_t config_hash = p.seen[0].config_hash;
  for (auto rank = static_cast<std::int32_t>(threadIdx.x); rank < p.world.size; rank += kLanes) {
    const SeenHeader seen = p.seen[rank];
    if (seen.fault != 0) faulty = min(faulty, rank);
    if (seen.config_hash != config_hash) other = min(other, rank);
  }
  faulty = __reduce_min_sync(kAllLanes, faulty);
  other = __reduce_min_sync(kAllLanes, other);
  if (faulty != INT32_MAX) {
    return {CallFaultKind::published, p.seen[faulty].fault, faulty,
            header_of(p, faulty, epoch)->detail};
  }
  if (other != INT32_MAX) {
    return {CallFaultKind::mismatch, 1 + static_cast<std::int32_t>(ErrorCode::mismatch), other, {}};
  }
  return {};
}

/// Before the call's stages take any. All kThreads threads of one block.
template <int kThreads>
__device__ __forceinline__ void clear_tickets(const CallParams& p) {
  for (std::int32_t group = static_cast<std::int32_t>(threadIdx.x); group < p.config.groups;
       group += kThreads) {
    p.tickets[group] = {};
  }
}

/// What a call is, once all headers have been read: its fault if it has one, and T of all ranks.
/// All kThreads threads of one block.
template <int kThreads>
__device__ __forceinline__ void agree_on_call(const CallParams& p, std::uint32_t epoch) {
  __shared__ bool is_skipped;
  CallState& state = *p.state;
  if (threadIdx.x < kLanes) {
    // It may be set meanwhile: all lanes go by what the first one saw.
    const bool abandoned =
        __shfl_sync(kAllLanes, *static_cast<volatile std::uint32_t*>(&state.abandoned), 0) != 0;
    const CallFault fault = abandoned ? CallFault{} : find_call_fault(p, epoch);
    if (threadIdx.x == 0) {
      if (!abandoned) {
        state.fault = fault;
        tell_progress(p.world, epoch, Stage::plan, -1);
      }
      is_skipped = abandoned || fault.kind != CallFaultKind::none;
    }
  }
  __syncthreads();
  for (std::int32_t rank = static_cast<std::int32_t>(threadIdx.x); rank < p.world.size;
       rank += kThreads) {
    p.tokens[rank] = is_skipped ? 0 : p.seen[rank].tokens;
  }
  clear_tickets<kThreads>(p);
}

}  // namespace comet::cuda
