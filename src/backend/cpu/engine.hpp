// SPDX-License-Identifier: Apache-2.0
// CpuEngine: the workers of one rank and the order in which each takes work.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/cpu/call_state.hpp"
#include "backend/cpu/engine_call.hpp"
#include "backend/cpu/stage_ops.hpp"
#include "backend/cpu/worker_pool.hpp"
#include "base/trace_span.hpp"
#include "comm/world_view.hpp"

namespace comet {

/// One rank's engine; one thread calls it. Serves every tiled schedule: they differ only in the
/// EngineCall.
class CpuEngine {
 public:
  CpuEngine(const MoeDesc& desc, const LayerDims& dims, const MoeWeights& weights, WorldView& world,
            int num_workers);
  ~CpuEngine();

  int num_workers() const noexcept { return num_workers_; }
  std::int64_t local_bytes() const noexcept { return ops_.local_bytes(); }

  /// Runs dispatch_gemm and gemm_combine of one call. Throws Error(timeout) saying who waited for
  /// whom if nothing moved for the world's timeout, or whatever failed the world meanwhile.
  void run(const EngineCall& call);

  /// Runs only the two GEMMs of `call`, the one that ran last, on the rows that it left.
  void replay_compute(const EngineCall& call);

 private:
  struct Worker;
  struct Transfer;

  bool worth_waking_workers() const;
  void run_workers();
  void run_worker(Worker& worker);
  void work(Worker& worker);
  bool step(Worker& worker);
  static void yield_after_turn(Worker& worker);
  bool step_reserved(Worker& worker, bool communicates);

  // Each does one piece of work and says so, or finds none ready.
  bool complete_transfer(Worker& worker);
  bool issue_transfer(Worker& worker, bool communicates);
  bool issue_send(Worker& worker);
  bool issue_pull(Worker& worker);
  bool issue_push(Worker& worker);
  bool gather(Worker& worker);
  bool compute(Worker& worker);
  bool sum_home(Worker& worker);

  void book_transfer(Worker& worker, Transfer transfer, std::int32_t source,
                     std::int32_t destination, std::int64_t bytes);
  TraceEvent event(const Worker& worker, TraceKind kind) const;
  /// Every piece of work begins here: the probe, then its interval in the trace.
  TraceSpan begin(const Worker& worker, const TraceEvent& event);
  void tell_progress(bool waits);

  bool idle_too_long(Worker& worker) const;
  void sleep(Worker& worker);
  std::string expiry_sentence(const Worker& worker) const;

  const LayerDims dims_;
  const int num_workers_;
  int active_workers_ = 1;  ///< Of the present call: the first one alone, or all.
  WorldView& world_;
  StageOps ops_;
  CallState state_;
  WorkerPool pool_;
  std::vector<std::unique_ptr<Worker>> workers_;
  // What the progress board says of this rank: that it waits, and that it is past dispatch_gemm.
  std::atomic<bool> told_waiting_{false};
  std::atomic<bool> told_combine_{false};
};

}  // namespace comet
