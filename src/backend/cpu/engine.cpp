// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/engine.hpp"

#include <algorithm>
#include <exception>
#include <functional>

#include "base/check.hpp"

namespace comet {
namespace {

using Clock = std::chrono::steady_clock;

// Transfers that a communication worker keeps booked on the link. Enough that the link stays busy
// while the worker copies or is descheduled; few enough that pushes do not queue far behind pulls.
constexpr std::size_t kMostOutstanding = 16;

// A compute worker that finds nothing to compute helps with few: it will not look at them again
// before its next tile is done.
constexpr std::size_t kMostOutstandingHelper = 2;

// Longest sleep without looking at the world's failures, whose reporter rings no doorbell if it
// died.
constexpr std::chrono::milliseconds kLongestSleep(50);

struct Transfer {
  Clock::time_point end;  // when the paced link has delivered it
  bool is_pull;
  PullPiece pull;
  PushPiece push;
};

}  // namespace

struct CpuEngine::Worker {
  int index = 0;
  OpScratch scratch;
  std::vector<Transfer> transfers;  // outstanding
  std::int64_t seen_remaining = 0;  // the rank's progress when this worker last saw it move
  Clock::time_point moved;
};

CpuEngine::CpuEngine(const MoeDesc& desc, const LayerDims& dims, const MoeWeights& weights,
                     WorldView& world, int num_workers)
    : dims_(dims), world_(world), ops_(desc, dims, weights), pool_(num_workers) {
  for (int i = 0; i < num_workers; ++i) {
    workers_.push_back(std::make_unique<Worker>());
    workers_.back()->index = i;
  }
}

CpuEngine::~CpuEngine() = default;

void CpuEngine::run(const EngineCall& call) {
  ops_.prepare(call);
  state_.prepare(call, dims_, world_, ops_.column_tiles());
  run_workers();
}

void CpuEngine::replay_compute(const EngineCall& call) {
  ops_.prepare(call);
  state_.prepare_compute(call, dims_, world_, ops_.column_tiles());
  run_workers();
}

void CpuEngine::run_workers() {
  for (const auto& worker : workers_) {
    worker->transfers.clear();
    worker->seen_remaining = -1;
  }
  pool_.run([this](int index) {
    const SingleThreadedGemm single_threaded;
    try {
      work(*workers_[index]);
    } catch (const Error& error) {
      world_.report_failure(error.code(), error.what());
    } catch (const std::exception& error) {
      world_.report_failure(ErrorCode::internal,
                 fmt::format("[engine] rank {} worker {}: {}", dims_.rank, index, error.what()));
    }
  });
  if (world_.failures->failed()) world_.failures->rethrow(dims_.rank);
}

void CpuEngine::work(Worker& worker) {
  const EngineCall& call = state_.call();
  for (;;) {
    const std::uint32_t rung = world_.doorbell().value();
    if (world_.failures->failed()) return;
    if (call.probe != nullptr && *call.probe) (*call.probe)(dims_.rank, worker.index);
    if (step(worker)) continue;
    if (state_.finished()) return;
    if (idle_too_long(worker)) {
      world_.report_failure(ErrorCode::timeout, expiry_sentence(worker));
      return;
    }
    sleep(worker, rung);
  }
}

bool CpuEngine::step(Worker& worker) {
  const EngineCall& call = state_.call();
  const int n_c = state_.pulls_left() ? call.n_c_dispatch : call.n_c_combine;
  // The highest indices communicate, so that worker 0, the caller, which needs no waking, computes.
  const bool communicates = worker.index >= num_workers() - n_c;
  if (complete_transfer(worker)) return true;
  if (n_c == 0) {  // all do both; the link is fed first, because it works by itself
    return issue_transfer(worker, kMostOutstanding) || gather() || sum_home() || compute(worker);
  }
  if (call.reserved_roles) return step_reserved(worker, communicates);
  if (communicates) {
    return issue_transfer(worker, kMostOutstanding) || sum_home() || gather() ||
           (worker.transfers.empty() && compute(worker));
  }
  return gather() || compute(worker) || sum_home() ||
         issue_transfer(worker, kMostOutstandingHelper);
}

bool CpuEngine::step_reserved(Worker& worker, bool communicates) {
  if (!communicates) return compute(worker) || (!state_.compute_left() && sum_home());
  return issue_transfer(worker, kMostOutstanding) || gather() || sum_home();
}

bool CpuEngine::complete_transfer(Worker& worker) {
  if (worker.transfers.empty()) return false;
  const auto next =
      std::min_element(worker.transfers.begin(), worker.transfers.end(),
                       [](const Transfer& a, const Transfer& b) { return a.end < b.end; });
  if (next->end > Clock::now()) return false;
  const Transfer transfer = *next;
  worker.transfers.erase(next);
  if (transfer.is_pull) {
    ops_.copy_rows(transfer.pull, state_);
    state_.pull_done();
    return true;
  }
  const BlockTransfer& block = state_.call().plan->blocks[transfer.push.block];
  // Releases the partials of the whole block and panel to the home rank's sum.
  world_.signal(block.source,
                state_.combine_slot_at(block.source, dims_.rank, transfer.push.panel, block.block),
                state_.call().epoch);
  state_.push_done();
  return true;
}

bool CpuEngine::issue_transfer(Worker& worker, std::size_t most_outstanding) {
  if (worker.transfers.size() >= most_outstanding) return false;
  const Plan& plan = *state_.call().plan;
  if (const auto pull = state_.take_pull()) {
    const std::int32_t source = plan.blocks[pull->block].source;
    worker.transfers.push_back(
        {.end = world_.link->book(source, dims_.rank, ops_.pull_bytes(*pull), Clock::now()),
         .is_pull = true,
         .pull = *pull,
         .push = {}});
    return true;
  }
  if (const auto push = state_.take_push()) {
    ops_.push_partials(*push);
    const std::int32_t home = plan.blocks[push->block].source;
    worker.transfers.push_back(
        {.end = world_.link->book(dims_.rank, home, ops_.push_bytes(*push), Clock::now()),
         .is_pull = false,
         .pull = {},
         .push = *push});
    return true;
  }
  return false;
}

bool CpuEngine::gather() {
  const auto piece = state_.take_gather();
  if (!piece) return false;
  ops_.copy_rows(*piece, state_);
  state_.gather_done();
  return true;
}

bool CpuEngine::compute(Worker& worker) {
  const auto first = [&] {
    const auto piece = state_.take_first();
    if (!piece) return false;
    ops_.first_gemm(piece->entry, piece->part, worker.scratch);
    state_.first_done(piece->entry);
    return true;
  };
  const auto second = [&] {
    const auto piece = state_.take_second();
    if (!piece) return false;
    ops_.second_gemm(*piece, worker.scratch);
    state_.second_done(*piece);
    return true;
  };
  // A0 B0 A1 B1 ...: the second GEMM of a group goes before the first one of the next.
  if (state_.second_group() < state_.first_group()) return second() || first();
  return first() || second();
}

bool CpuEngine::sum_home() {
  const auto piece = state_.take_home();
  if (!piece) return false;
  ops_.sum_home(*piece);
  state_.home_done();
  return true;
}

bool CpuEngine::idle_too_long(Worker& worker) const {
  const std::int64_t remaining = state_.remaining();
  const Clock::time_point now = Clock::now();
  if (remaining != worker.seen_remaining || !worker.transfers.empty()) {
    worker.seen_remaining = remaining;
    worker.moved = now;
  }
  return now - worker.moved > world_.timeout;
}

void CpuEngine::sleep(Worker& worker, std::uint32_t rung) {
  Clock::time_point until = std::min(Clock::now() + kLongestSleep, worker.moved + world_.timeout);
  for (const Transfer& transfer : worker.transfers) until = std::min(until, transfer.end);
  world_.doorbell().sleep(rung, until);
}

std::string CpuEngine::expiry_sentence(const Worker& worker) const {
  const auto milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(world_.timeout).count();
  const auto missing = state_.missing_partials();
  if (!missing) {
    return fmt::format("[engine] rank {} worker {} saw no progress for {} ms with {} pieces left",
                       dims_.rank, worker.index, milliseconds, state_.remaining());
  }
  const std::int64_t token = missing->piece.block * kTokenBlock;
  return fmt::format(
      "[gemm_combine] rank {} worker {} waited {} ms for rank {}: panel {} of tokens {}..{}, "
      "expected epoch {}, seen {}",
      dims_.rank, worker.index, milliseconds, missing->source, missing->piece.panel, token,
      min_of(state_.call().y.rows, token + kTokenBlock) - 1, state_.call().epoch, missing->seen);
}

}  // namespace comet
