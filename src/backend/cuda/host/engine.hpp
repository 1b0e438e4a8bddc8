// SPDX-License-Identifier: Apache-2.0
// CudaEngine: one layer's kernels and buffers on one rank, and the order in which they are queued.
#pragma once

#include <memory>
#include <vector>

#include "backend/cuda/host/device_trace.hpp"
#include "backend/cuda/host/rank_device.hpp"
#include "backend/cuda/kernels/call_kernels.hpp"
#include "backend/cuda/kernels/grouped_gemm.hpp"
#include "backend/cuda/kernels/overlap.hpp"
#include "backend/cuda/kernels/plan_kernels.hpp"
#include "backend/cuda/layer_engine.hpp"

namespace comet::cuda {

class CudaEngine final : public LayerEngine {
 public:
  explicit CudaEngine(const LayerEngineParams& params);

  void queue(const QueuedCall& call) override;
  CallStats finish() override;
  void rethrow_earlier() override;
  double replay_compute() override;
  std::int64_t local_bytes() const noexcept override { return local_bytes_; }

 private:
  template <typename T>
  DeviceBuffer<T> reserve(std::int64_t count);
  void make_products(const LayerEngineParams& params);
  void preload_products();
  CallParams make_call_params(const QueuedCall& call);
  std::byte* const* device_peers(std::byte* const* peers, cudaStream_t stream);
  PlanProblem plan_problem(const CallParams& params) const;
  void queue_publish(const CallParams& params, const QueuedCall& call, cudaStream_t stream);
  Follow join_tokens(const CallParams& params, cudaStream_t stream);
  OrderProblem order_problem(const CallParams& params, const QueuedCall& call) const;
  std::int32_t tiles_to_begin_with() const;
  std::int32_t slots_per_first_pull(const OverlapChoice& choice) const;
  DevicePlanProblem device_plan_problem(const CallParams& params) const;
  void queue_plan(const CallParams& params, const OrderProblem& wanted, cudaStream_t stream) const;
  void queue_start(const CallParams& params, const QueuedCall& call, const OrderProblem& wanted,
                   cudaStream_t stream);
  void queue_sequential(const CallParams& params, cudaStream_t stream);
  void queue_pipelined(const CallParams& params, int reserved, cudaStream_t stream);
  void queue_comet(const CallParams& params, const OrderProblem& wanted, cudaStream_t stream);
  void queue_products(const std::int32_t* tile_range, std::uint32_t* ticket, int num_blocks,
                      Follow follow, cudaStream_t stream) const;
  void queue_combine(const CallParams& params, std::int32_t group, int num_blocks, Follow follow,
                     cudaStream_t stream) const;
  bool has_fault();
  void rethrow_failure();
  void rethrow_fault();

  const MoeDesc desc_;
  const LayerDims dims_;
  WorldView& world_;
  RankDevice& device_;
  const std::int64_t max_rows_;
  const std::int64_t max_groups_;
  const int multiprocessors_;
  // Whether each block has a neighbour to load weights with, see GemmGrid: multiprocessors come by
  // twos, but not for certain from MPS.
  const bool has_pairs_;
  std::int64_t local_bytes_ = 0;

  PlanCapacity capacity_{};
  std::int64_t row_slots_ = 0;
  DevicePlan plan_;
  OverlapOrder order_;
  DeviceBuffer<std::int32_t> ep_rank_of_, local_of_;
  DeviceBuffer<CallState> state_;
  DeviceBuffer<Tickets> tickets_;
  DeviceBuffer<SeenHeader> seen_;
  DeviceBuffer<std::int32_t> tokens_;
  DeviceBuffer<std::uint16_t> ids_;
  DeviceBuffer<const std::uint16_t*> id_pointers_;
  DeviceBuffer<std::uint32_t> capacity_counts_;
  DeviceBuffer<unsigned long long> capacity_totals_;
  DeviceBuffer<std::byte> rows_, acts_, out_;
  DeviceBuffer<float> row_weights_;
  std::unique_ptr<GroupedGemm> first_, second_;  // null on a rank without experts
  CallReport* report_ = nullptr;                 // pinned, the world's
  unsigned long long* stamps_ = nullptr;         // [2] pinned, of replays

  // Of the last call that was traced.
  Trace* trace_ = nullptr;
  std::unique_ptr<DeviceTrace> device_trace_;

  // Workspaces that a call has named: [world] pointers each, kept since a graph may use them.
  struct Peers {
    std::vector<std::byte*> host;
    DeviceBuffer<std::byte*> device;
  };
  std::vector<Peers> peers_;
  std::int64_t ids_stride_ = 0;
  bool has_earlier_fault_ = false;  // as the last call was queued
};

}  // namespace comet::cuda
