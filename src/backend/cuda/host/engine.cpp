// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/host/engine.hpp"

#include "base/check.hpp"

namespace comet::cuda {
namespace {

RankDevice& device_of(const LayerEngineParams& params) {
  RankDevice& device = static_cast<RankDevice&>(*params.world->device);
  device.make_current();
  return device;
}

PlanLimits plan_limits(const LayerEngineParams& params) {
  const LayerDims& dims = params.dims;
  return {.world = dims.world,
          .tp = dims.tp,
          .max_tokens = static_cast<std::int32_t>(dims.max_tokens),
          .topk = dims.topk,
          .num_local = dims.num_local,
          .block_m = static_cast<std::int32_t>(dims.block_m),
          .groups = static_cast<std::int32_t>(params.max_groups)};
}

std::int64_t row_slots_of(const LayerEngineParams& params, const PlanCapacity& capacity) {
  const std::int64_t all = capacity.tiles * params.dims.block_m;
  if (params.max_rows == 0) return all;
  return min_of(all, round_up(params.max_rows, params.dims.block_m));
}

template <typename T>
T* pinned(RankDevice& device, std::int64_t count) {
  return reinterpret_cast<T*>(device.allocate_pinned(count * static_cast<std::int64_t>(sizeof(T))));
}

}  // namespace

template <typename T>
DeviceBuffer<T> CudaEngine::reserve(std::int64_t count) {
  DeviceBuffer<T> buffer(count);
  local_bytes_ += static_cast<std::int64_t>(buffer.bytes());
  if (count > 0) {
    check_cuda(cudaMemset(buffer.data(), 0, buffer.bytes()), "clearing device memory");
  }
  return buffer;
}

CudaEngine::CudaEngine(const LayerEngineParams& params)
    : desc_(params.desc),
      dims_(params.dims),
      world_(*params.world),
      device_(device_of(params)),
      max_rows_(params.max_rows),
      max_groups_(params.max_groups),
      multiprocessors_(device_.multiprocessors() - (device_.puts() != nullptr ? 1 : 0)),
      has_pairs_(multiprocessors_ % 2 == 0 && !has_mps_limit()),
      capacity_(plan_capacity(plan_limits(params))),
      row_slots_(row_slots_of(params, capacity_)),
      plan_(plan_limits(params)),
      order_(plan_limits(params), row_slots_, static_cast<std::int32_t>(params.max_groups),
             ceil_div(params.dims.hidden, params.dims.panel_n)) {
  local_bytes_ += order_.bytes();
  ep_rank_of_ = reserve<std::int32_t>(dims_.num_experts);
  ep_rank_of_.copy_from(params.ep_rank_of);
  local_of_ = reserve<std::int32_t>(dims_.num_experts);
  local_of_.copy_from(params.local_of);
  const CallState state;
  state_ = reserve<CallState>(1);
  tickets_ = reserve<Tickets>(max_groups_);
  seen_ = reserve<SeenHeader>(dims_.world);
  tokens_ = reserve<std::int32_t>(dims_.world);
  ids_stride_ = round_up(dims_.max_tokens * dims_.topk, 8);  // 16 bytes, copied by whole words
  ids_ = reserve<std::uint16_t>(dims_.world * ids_stride_);
  std::vector<const std::uint16_t*> pointers;
  for (std::int32_t rank = 0; rank < dims_.world; ++rank) {
    pointers.push_back(ids_.data() + rank * ids_stride_);
  }
  id_pointers_ = reserve<const std::uint16_t*>(dims_.world);
  id_pointers_.copy_from(pointers.data());
  if (max_rows_ > 0) {
    capacity_counts_ = reserve<std::uint32_t>(max_groups_ * dims_.num_experts);
    capacity_totals_ = reserve<unsigned long long>(dims_.world);
  }
  // Sums count rows and partial sums in 32 bits, in units of 16 bytes.
  constexpr std::int64_t kMostSummedBytes = std::int64_t{1} << 36;
  const std::int64_t summed_bytes =
      std::max(row_slots_, dims_.world * dims_.max_tokens) * dims_.row_bytes();
  check(summed_bytes <= kMostSummedBytes, ErrorCode::capacity,
        "[cuda] a layer whose rows or partial sums take {} bytes: at most {} are possible; allow "
        "fewer tokens, or rows by max_rows",
        summed_bytes, kMostSummedBytes);
  rows_ = reserve<std::byte>(row_slots_ * dims_.row_bytes());
  row_weights_ = reserve<float>(row_slots_);
  acts_ = reserve<std::byte>(row_slots_ * dims_.inter_local * dims_.element_bytes);
  out_ = reserve<std::byte>(row_slots_ * dims_.row_bytes());
  report_ = pinned<CallReport>(device_, 1);
  stamps_ = pinned<unsigned long long>(device_, 2);
  // Also waits for the clearing of all buffers.
  check_cuda(cudaStreamSynchronize(cudaStreamLegacy), "clearing device memory");
  state_.copy_from(&state);
  device_peers(params.peers, nullptr);
  if (dims_.num_local > 0) make_products(params);
  preload_products();
}

void CudaEngine::make_products(const LayerEngineParams& params) {
  const GroupedGemmDesc first{.num_experts = dims_.num_local,
                              .row_slots = row_slots_,
                              .block_m = static_cast<std::int32_t>(dims_.block_m),
                              .k = dims_.hidden,
                              .n = dims_.inter_local,
                              .dtype = desc_.dtype,
                              .gated = desc_.gated,
                              .activated = true,
                              .activation = desc_.activation};
  const GroupedGemmDesc second{.num_experts = dims_.num_local,
                               .row_slots = row_slots_,
                               .block_m = static_cast<std::int32_t>(dims_.block_m),
                               .k = dims_.inter_local,
                               .n = dims_.hidden,
                               .dtype = desc_.dtype};
  first_ = std::make_unique<GroupedGemm>(first, rows_.data(), params.weights.gate,
                                         params.weights.up, acts_.data());
  second_ = std::make_unique<GroupedGemm>(second, acts_.data(), ExpertMatrices{},
                                          params.weights.down, out_.data());
}

// Runs the plan and the products once with no tokens, since a kernel's first launch loads it, which
// may wait for kernels of other ranks.
void CudaEngine::preload_products() {
  const cudaStream_t stream = device_.partition().stream();
  CallParams params;
  params.plan = plan_.view();
  // One rank's plans of few tokens and of many have different kernels, and so may those of groups.
  for (const std::int64_t tokens : {std::int64_t{0}, dims_.max_tokens}) {
    params.max_call_tokens = static_cast<std::int32_t>(tokens);
    for (const std::int64_t groups : {std::int64_t{1}, max_groups_}) {
      params.config.groups = static_cast<std::int32_t>(groups);
      queue_plan(params, {}, stream);
    }
  }
  queue_products(plan_.view().group_tiles, nullptr, 1, Follow::after_all, stream);
  check_cuda(cudaStreamSynchronize(stream), "loading a layer's kernels");
}

std::byte* const* CudaEngine::device_peers(std::byte* const* peers, cudaStream_t stream) {
  const std::vector<std::byte*> wanted(peers, peers + dims_.world);
  for (const Peers& known : peers_) {
    if (known.host == wanted) return known.device.data();
  }
  check(
      stream == nullptr || !is_capturing(stream), ErrorCode::invalid_argument,
      "[forward] rank {}: the workspace has grown since the layer's last call: run one outside of "
      "a capture first",
      dims_.rank);
  Peers added{wanted, DeviceBuffer<std::byte*>(dims_.world)};
  added.device.copy_from(wanted.data());
  return peers_.emplace_back(std::move(added)).device.data();
}

std::unique_ptr<LayerEngine> make_layer_engine(const LayerEngineParams& params) {
  return std::make_unique<CudaEngine>(params);
}

void choose_device_tile(LayerDims& dims) {
  if (dims.block_m == 0) {
    dims.block_m =
        choose_gemm_block_m(dims.world * dims.max_tokens * dims.topk / max_of(dims.num_experts, 1));
  }
  if (dims.block_n == 0) dims.block_n = kGemmBlockN;
  check((dims.block_m == 64 || dims.block_m == 128) && dims.block_n == kGemmBlockN,
        ErrorCode::invalid_argument, "[layer] tile {} x {}: on cuda 64 or 128 x {}, or 0 to choose",
        dims.block_m, dims.block_n, kGemmBlockN);
  dims.panel_n = kGemmBlockN;
}

}  // namespace comet::cuda
