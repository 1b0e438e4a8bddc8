// SPDX-License-Identifier: Apache-2.0
// How a call begins on its rank: choices to the own workspace, and a header. publish_kernel does
// that by many blocks; the kernel that also makes the plan of few tokens, by one.
#pragma once

#include "backend/cuda/kernels/call_kernels.hpp"
#include "backend/cuda/kernels/read_headers.cuh"
#include "comet/error.hpp"

namespace comet::cuda {

/// Of the grid's threads this one, and how many they are.
__device__ __forceinline__ std::int64_t grid_thread() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

__device__ __forceinline__ std::int64_t grid_threads() {
  return static_cast<std::int64_t>(gridDim.x) * blockDim.x;
}

/// What a call begins with.
struct CallStart {
  std::uint32_t epoch;  ///< open_call advances the rank's to it.
  std::int32_t tokens;  ///< As asked for.
  bool is_sound;        ///< There may be so many, and the host has found no fault.
};

/// All threads of the grid.
__device__ __forceinline__ CallStart start_call(const CallParams& p) {
  const std::uint32_t epoch = *p.world.epoch + 1;
  if (grid_thread() == 0) {
    p.state->times.begin_ns = global_timer();
    tell_progress(p.world, epoch, Stage::publish, -1);
  }
  const std::int32_t tokens = p.device_tokens != nullptr ? *p.device_tokens : p.max_call_tokens;
  return {epoch, tokens, p.host_fault == 0 && tokens >= 0 && tokens <= p.max_call_tokens};
}

__device__ __forceinline__ std::int64_t call_id(const CallParams& p, std::int64_t index) {
  return p.ids_are_64 ? static_cast<const std::int64_t*>(p.topk_ids)[index]
                      : static_cast<const std::int32_t*>(p.topk_ids)[index];
}

__device__ __forceinline__ std::uint32_t call_weight_bits(const CallParams& p, std::int64_t index) {
  return p.weight_type == DType::f32 ? static_cast<const std::uint32_t*>(p.topk_weights)[index]
                                     : static_cast<const std::uint16_t*>(p.topk_weights)[index];
}

__device__ __forceinline__ float weight_of(std::uint32_t bits, DType type) {
  const auto low = static_cast<std::uint16_t>(bits);
  if (type == DType::bf16) return to_float(bf16{low});
  if (type == DType::f16) return to_float(f16{low});
  return __uint_as_float(bits);
}

/// Ids and weights of a sound start, by all threads of the grid. Ids travel as 16 bits; the first
/// one that is no expert is remembered. The plan reads them from the own copy.
__device__ __forceinline__ void write_routing(const CallParams& p, const CallStart& start) {
  std::byte* own = p.peers[p.world.rank];
  auto* ids = reinterpret_cast<std::uint16_t*>(own + p.layout.ids[start.epoch & 1U]);
  auto* weights = reinterpret_cast<float*>(own + p.layout.weights[start.epoch & 1U]);
  std::uint16_t* copy = p.ids + p.world.rank * p.ids_stride;
  const std::int64_t count = std::int64_t{start.tokens} * p.dims.topk;
  constexpr int kBatch = 2;  // loads of a thread on their way at once: few calls have more for it
  for (std::int64_t first = grid_thread(); first < count; first += kBatch * grid_threads()) {
    std::int64_t id[kBatch];
    std::uint32_t weight_bits[kBatch];
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const std::int64_t i = first + j * grid_threads();
      if (i >= count) break;
      id[j] = call_id(p, i);
      weight_bits[j] = call_weight_bits(p, i);
    }
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const std::int64_t i = first + j * grid_threads();
      if (i >= count) break;
      if (id[j] < -1 || id[j] >= p.dims.num_experts) {
        atomicMin(&p.state->bad_index, static_cast<std::uint32_t>(i));
      }
      copy[i] = ids[i] = id[j] < 0 ? kDroppedId : static_cast<std::uint16_t>(id[j]);
      weights[i] = weight_of(weight_bits[j], p.weight_type);
    }
  }
}

/// What this rank has to publish: tokens, or in place of them what is wrong.
struct OwnHeader {
  std::int32_t tokens = 0;
  std::int32_t fault = 0;
  InputFaultDetail detail = {};
};

/// One thread.
__device__ __forceinline__ OwnHeader find_own_header(const CallParams& p, std::int32_t tokens,
                                                     bool is_overlap, std::uint32_t bad_index) {
  const auto fault = [](ErrorCode code, const InputFaultDetail& detail) {
    return OwnHeader{0, 1 + static_cast<std::int32_t>(code), detail};
  };
  if (p.host_fault != 0) return {0, p.host_fault, {}};
  if (tokens < 0 || tokens > p.max_call_tokens) {
    return fault(ErrorCode::capacity, {InputFaultKind::too_many_tokens, tokens, 0});
  }
  if (bad_index != kNoBadIndex) {
    return fault(ErrorCode::out_of_range,
                 {InputFaultKind::bad_id, bad_index, call_id(p, bad_index)});
  }
  if (is_overlap) return fault(ErrorCode::invalid_argument, {InputFaultKind::overlap, 0, 0});
  return {tokens, 0, {}};
}

/// The same thread.
__device__ __forceinline__ void write_header(const CallParams& p, const FaultSentence& sentence,
                                             const OwnHeader& own, std::uint32_t epoch) {
  CallHeader* header = header_of(p, p.world.rank, epoch);
  header->tokens = own.tokens;
  header->config_hash = p.config_hash;
  header->fault = own.fault;
  header->detail = own.detail;
  header->sentence[0] = '\0';
  if (p.host_fault != 0) {
    for (std::size_t i = 0; i < sizeof(sentence.text); ++i) header->sentence[i] = sentence.text[i];
  }
  header->epoch = epoch;
}

/// Writes the header and what the rank knows of its call, once all choices have been looked at. One
/// thread.
__device__ __forceinline__ OwnHeader open_call(const CallParams& p, const FaultSentence& sentence,
                                               const CallStart& start) {
  CallState& state = *p.state;
  const std::uint32_t bad_index = load_relaxed_gpu(&state.bad_index);  // of all threads
  const bool is_overlap = atomicExch(p.world.busy, 1U) != 0;
  const OwnHeader own = find_own_header(p, start.tokens, is_overlap, bad_index);
  write_header(p, sentence, own, start.epoch);
  state.epoch = start.epoch;
  state.bad_index = kNoBadIndex;
  state.abandoned = 0;
  state.own_tokens = own.tokens;
  state.own_fault = own.fault;
  state.times.tokens_begin_ns = 0;  // until they are copied beside the plan
  state.fault = {};
  state.metadata_bytes_in = 0;
  *p.world.epoch = start.epoch;
  return own;
}

/// open_call of a rank that is alone, and what its call is: nothing is read back that this rank
/// alone has written. All kThreads threads of one block.
template <int kThreads>
__device__ __forceinline__ void open_lone_call(const CallParams& p, const FaultSentence& sentence,
                                               const CallStart& start) {
  if (threadIdx.x == 0) {
    const OwnHeader own = open_call(p, sentence, start);
    p.state->times.published_ns = global_timer();
    p.tokens[0] = own.tokens;
    if (own.fault != 0) p.state->fault = {CallFaultKind::published, own.fault, 0, own.detail};
    tell_progress(p.world, start.epoch, Stage::plan, -1);
  }
  clear_tickets<kThreads>(p);
}

}  // namespace comet::cuda
