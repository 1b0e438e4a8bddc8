// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/engine.hpp"

#include <algorithm>
#include <exception>
#include <functional>
#include <thread>

#include "base/check.hpp"
#include "base/trace_span.hpp"

namespace comet {
namespace {

using Clock = std::chrono::steady_clock;

// Pushes and pulls that a worker keeps booked on the link at most. Enough that the link stays busy
// while the worker copies or is descheduled; pulls fewer, because a slower rank's metadata queues
// behind those of faster ones. They have a limit of their own, so that no pull waits for a push.
struct Outstanding {
  int pulls;
  int pushes;
};
constexpr Outstanding kMostOutstanding = {.pulls = 8, .pushes = 16};

// A compute worker that finds nothing to compute helps with few: it will not look at them again
// before its next tile is done.
constexpr Outstanding kMostOutstandingHelper = {.pulls = 2, .pushes = 2};

// Longest sleep without looking at the world's failures, whose reporter rings no doorbell if it
// died.
constexpr std::chrono::milliseconds kLongestBlindSleep(50);

// Where ranks share processors, their workers take turns of this length. Left to itself a kernel
// lets the one that computes run on until its next tick (4 ms at 250 Hz), while the transfers of
// the others have ended and the link stands idle. A turn is a few tiles long: an idle processor
// costs a yield, below a microsecond, and a shared one a switch with its cold caches.
constexpr std::chrono::microseconds kTurn(500);

}  // namespace

struct CpuEngine::Transfer {
  Clock::time_point end;  // when the paced link has delivered it
  bool is_pull;
  PullPiece pull;
  PushPiece push;
};

struct CpuEngine::Worker {
  int index = 0;
  std::uint32_t rung = 0;  // the rank's doorbell before this step looked for work
  OpScratch scratch;
  std::vector<Transfer> transfers;  // outstanding
  Clock::time_point turn_began;     // when it began the call or last yielded its processor
  std::int64_t seen_remaining = 0;  // the rank's progress when this worker last saw it move
  Clock::time_point moved;
  Trace events;            // of this call, appended to the caller's trace at its end
  Trace* trace = nullptr;  // &events, or null if tracing is off
};

CpuEngine::CpuEngine(const MoeDesc& desc, const LayerDims& dims, const MoeWeights& weights,
                     WorldView& world, int num_workers)
    : dims_(dims),
      num_workers_(num_workers),
      world_(world),
      ops_(desc, dims, weights),
      pool_(num_workers) {
  for (int i = 0; i < num_workers; ++i) {
    workers_.push_back(std::make_unique<Worker>());
    workers_.back()->index = i;
  }
}

CpuEngine::~CpuEngine() = default;

void CpuEngine::run(const EngineCall& call) {
  try {
    ops_.prepare(call);
    state_.prepare(call, dims_, world_, ops_.column_tiles());
  } catch (const Error& error) {  // no memory: only this rank sees it
    world_.report_failure(error.code(),
                          fmt::format("[engine] rank {}: {}", dims_.rank, error.what()));
    world_.failures->rethrow(dims_.rank);
  }
  run_workers();
}

void CpuEngine::replay_compute(const EngineCall& call) {
  ops_.prepare(call);
  state_.prepare_compute(call, dims_, world_, ops_.column_tiles());
  run_workers();
}

void CpuEngine::run_workers() {
  told_waiting_.store(false, std::memory_order_relaxed);
  told_combine_.store(false, std::memory_order_relaxed);
  const Clock::time_point now = Clock::now();
  for (const auto& worker : workers_) {
    worker->transfers.clear();
    worker->turn_began = now;
    worker->seen_remaining = -1;
    worker->events.clear();
    worker->trace = state_.call().trace != nullptr ? &worker->events : nullptr;
  }
  active_workers_ = worth_waking_workers() ? num_workers_ : 1;
  if (active_workers_ == 1) {
    run_worker(*workers_[0]);
  } else {
    pool_.run([this](int index) { run_worker(*workers_[index]); });
  }
  for (const auto& worker : workers_) {
    if (worker->trace == nullptr) continue;
    Trace& trace = *state_.call().trace;
    trace.insert(trace.end(), worker->events.begin(), worker->events.end());
  }
  if (world_.failures->failed()) world_.failures->rethrow(dims_.rank);
}

bool CpuEngine::worth_waking_workers() const {
  if (state_.call().probe != nullptr) return true;  // tests of small calls want all workers
  // Waking a sleeping thread costs some 10 us, in which a core does about this many operations.
  constexpr std::int64_t kOperationsOfAWake = 1'000'000;
  const std::int64_t rows = state_.call().plan->num_tiles() * dims_.block_m;
  return rows * dims_.hidden * dims_.inter_local > kOperationsOfAWake;
}

void CpuEngine::run_worker(Worker& worker) {
  const SingleThreadedGemm single_threaded;
  const auto report = [&](ErrorCode code, const char* what) {
    world_.report_failure(
        code, fmt::format("[engine] rank {} worker {}: {}", dims_.rank, worker.index, what));
  };
  try {
    work(worker);
  } catch (const Error& error) {
    report(error.code(), error.what());
  } catch (const std::exception& error) {
    report(ErrorCode::internal, error.what());
  } catch (...) {  // a probe may throw anything
    report(ErrorCode::internal, "unknown exception");
  }
}

void CpuEngine::work(Worker& worker) {
  for (;;) {
    worker.rung = world_.doorbell().value();
    if (world_.failures->failed()) return;
    if (step(worker)) {
      yield_after_turn(worker);
      continue;
    }
    if (state_.finished()) return;
    if (idle_too_long(worker)) {
      world_.report_failure(ErrorCode::timeout, expiry_sentence(worker));
      return;
    }
    sleep(worker);
  }
}

void CpuEngine::yield_after_turn(Worker& worker) {
  if (Clock::now() - worker.turn_began < kTurn) return;
  std::this_thread::yield();
  worker.turn_began = Clock::now();
}

bool CpuEngine::step(Worker& worker) {
  const EngineCall& call = state_.call();
  const int wished = state_.pulls_left() ? call.n_c_dispatch : call.n_c_combine;
  const int n_c = active_workers_ == 1 ? 0 : wished;  // a lone worker does both
  // The highest indices communicate, so that worker 0, the caller, which needs no waking, computes.
  const bool communicates = worker.index >= num_workers_ - n_c;
  if (complete_transfer(worker)) return true;
  if (n_c == 0) {  // all do both; the link is fed first, because it works by itself
    return issue_transfer(worker, true) || gather(worker) || sum_home(worker) || compute(worker);
  }
  if (call.reserved_roles) return step_reserved(worker, communicates);
  if (communicates) {
    return issue_transfer(worker, true) || sum_home(worker) || gather(worker) ||
           (worker.transfers.empty() && compute(worker));
  }
  return gather(worker) || compute(worker) || sum_home(worker) ||
         issue_transfer(worker, communicates);
}

bool CpuEngine::step_reserved(Worker& worker, bool communicates) {
  if (!communicates) return compute(worker) || (!state_.compute_left() && sum_home(worker));
  return issue_transfer(worker, true) || gather(worker) || sum_home(worker);
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
    TraceEvent pull = event(worker, TraceKind::pull);
    pull.block = state_.call().plan->blocks[transfer.pull.block].block;
    pull.peer = state_.call().plan->blocks[transfer.pull.block].source;
    const TraceSpan span = begin(worker, pull);
    ops_.copy_rows(transfer.pull, state_);
    state_.pull_done();
    return true;
  }
  const BlockTransfer& block = state_.call().plan->blocks[transfer.push.block];
  // Releases the partials of the whole block and panel to the home rank's sum.
  world_.signal(block.source,
                state_.combine_slot_at(block.source, dims_.rank, transfer.push.panel, block.block),
                state_.call().epoch);
  state_.push_done(transfer.push);
  return true;
}

bool CpuEngine::issue_transfer(Worker& worker, bool communicates) {
  if (issue_send(worker)) return true;  // all of it before any wait for what others send
  const Outstanding most = communicates ? kMostOutstanding : kMostOutstandingHelper;
  const auto pulls = std::count_if(worker.transfers.begin(), worker.transfers.end(),
                                   [](const Transfer& transfer) { return transfer.is_pull; });
  const auto pushes = static_cast<std::int64_t>(worker.transfers.size()) - pulls;
  return (pulls < most.pulls && issue_pull(worker)) || (pushes < most.pushes && issue_push(worker));
}

bool CpuEngine::issue_send(Worker& worker) {
  const auto piece = state_.take_send(worker.rung);
  if (!piece) return false;
  TraceEvent send = event(worker, TraceKind::send);
  send.peer = piece->destination;
  send.block = piece->block;
  const TraceSpan span = begin(worker, send);
  send_rows(state_.call(), dims_, world_, *piece);
  state_.send_done();
  return true;
}

bool CpuEngine::issue_pull(Worker& worker) {
  const auto pull = state_.take_pull(worker.rung);
  if (!pull) return false;
  book_transfer(worker, {.end = {}, .is_pull = true, .pull = *pull, .push = {}},
                state_.call().plan->blocks[pull->block].source, dims_.rank, ops_.pull_bytes(*pull));
  return true;
}

bool CpuEngine::issue_push(Worker& worker) {
  const auto push = state_.take_push(worker.rung);
  if (!push) return false;
  const BlockTransfer& block = state_.call().plan->blocks[push->block];
  {
    TraceEvent sum = event(worker, TraceKind::push);
    sum.peer = block.source;
    sum.panel = push->panel;
    sum.block = block.block;
    const TraceSpan span = begin(worker, sum);
    ops_.push_partials(*push);
    if (world_.is_remote(block.source)) {
      send_partials(state_.call(), dims_, world_, block, push->panel);
    }
  }
  book_transfer(worker, {.end = {}, .is_pull = false, .pull = {}, .push = *push}, dims_.rank,
                block.source, ops_.push_bytes(*push));
  return true;
}

void CpuEngine::book_transfer(Worker& worker, Transfer transfer, std::int32_t source,
                              std::int32_t destination, std::int64_t bytes) {
  transfer.end = world_.link->book(source, destination, bytes, Clock::now());
  worker.transfers.push_back(transfer);
  if (worker.trace == nullptr || source == destination || !world_.link->paced()) return;
  TraceEvent link = event(worker, transfer.is_pull ? TraceKind::link_pull : TraceKind::link_push);
  link.peer = transfer.is_pull ? source : destination;
  const auto since_start = [](Clock::time_point time) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
  };
  link.begin_ns = since_start(transfer.end - world_.link->duration(bytes));
  link.end_ns = since_start(transfer.end);
  worker.events.push_back(link);
}

TraceSpan CpuEngine::begin(const Worker& worker, const TraceEvent& event) {
  const EngineCall& call = state_.call();
  // Told before the work, in which the worker may stop: a rank that stops must not seem to wait.
  const bool combines = event.kind == TraceKind::second_gemm || event.kind == TraceKind::push ||
                        event.kind == TraceKind::home_sum;
  const bool enters_combine = combines && !told_combine_.load(std::memory_order_relaxed);
  if (enters_combine) told_combine_.store(true, std::memory_order_relaxed);
  const bool stale = event.kind != TraceKind::wait && told_waiting_.load(std::memory_order_relaxed);
  if (enters_combine || stale) tell_progress(false);
  if (call.probe != nullptr) (*call.probe)({event.kind, dims_.rank, worker.index});
  return TraceSpan(worker.trace, event);
}

TraceEvent CpuEngine::event(const Worker& worker, TraceKind kind) const {
  TraceEvent event;
  event.kind = kind;
  event.rank = dims_.rank;
  event.worker = worker.index;
  return event;
}

bool CpuEngine::gather(Worker& worker) {
  const auto piece = state_.take_gather(worker.rung);
  if (!piece) return false;
  TraceEvent gather = event(worker, TraceKind::gather);
  gather.block = state_.call().plan->blocks[piece->block].block;
  const TraceSpan span = begin(worker, gather);
  ops_.copy_rows(*piece, state_);
  state_.gather_done();
  return true;
}

bool CpuEngine::compute(Worker& worker) {
  const auto first = [&] {
    const auto piece = state_.take_first(worker.rung);
    if (!piece) return false;
    TraceEvent gemm = event(worker, TraceKind::first_gemm);
    gemm.tile = static_cast<std::int32_t>(piece->entry);
    gemm.panel = piece->part;
    gemm.group = state_.call().plan->tiles[piece->entry].group;
    const TraceSpan span = begin(worker, gemm);
    ops_.first_gemm(piece->entry, piece->part, worker.scratch);
    state_.first_done(piece->entry);
    return true;
  };
  const auto second = [&] {
    const auto piece = state_.take_second(worker.rung);
    if (!piece) return false;
    TraceEvent gemm = event(worker, TraceKind::second_gemm);
    gemm.tile = piece->tile;
    gemm.panel = piece->panel;
    gemm.group = state_.call().plan->tiles[piece->tile].group;
    const TraceSpan span = begin(worker, gemm);
    ops_.second_gemm(*piece, worker.scratch);
    state_.second_done(*piece);
    return true;
  };
  // A0 B0 A1 B1 ...: the second GEMM of a group goes before the first one of the next.
  if (state_.second_group() < state_.first_group()) return second() || first();
  return first() || second();
}

bool CpuEngine::sum_home(Worker& worker) {
  const auto piece = state_.take_home(worker.rung);
  if (!piece) return false;
  TraceEvent sum = event(worker, TraceKind::home_sum);
  sum.block = piece->block;
  sum.panel = piece->panel;
  const TraceSpan span = begin(worker, sum);
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

void CpuEngine::sleep(Worker& worker) {
  const TraceSpan span = begin(worker, event(worker, TraceKind::wait));
  const Clock::time_point now = Clock::now();
  if (now - worker.moved >= kLongestBlindSleep) tell_progress(true);
  Clock::time_point until = std::min(now + kLongestBlindSleep, worker.moved + world_.timeout);
  for (const Transfer& transfer : worker.transfers) until = std::min(until, transfer.end);
  world_.doorbell().sleep(worker.rung, until);
}

void CpuEngine::tell_progress(bool waits) {
  const bool combines = told_combine_.load(std::memory_order_relaxed);
  const Stage stage = combines ? Stage::gemm_combine : Stage::dispatch_gemm;
  const auto missing = waits ? state_.missing() : std::nullopt;
  // Lacking its own partials, a rank waits for one of its own workers: for no other rank.
  const bool other = missing && missing->source != dims_.rank;
  world_.progress->set(dims_.rank, {state_.call().epoch, stage, other ? missing->source : -1});
  told_waiting_.store(waits, std::memory_order_relaxed);
}

std::string CpuEngine::expiry_sentence(const Worker& worker) const {
  const auto milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(world_.timeout).count();
  const auto missing = state_.missing();
  if (!missing || missing->source == dims_.rank) {
    return fmt::format(
        "[engine] rank {} worker {} saw no progress for {} ms with {} pieces left; cause: rank {}, "
        "another of its workers does not return",
        dims_.rank, worker.index, milliseconds, state_.remaining(), dims_.rank);
  }
  const bool lacks_tokens = missing->panel < 0;
  const std::int64_t token = missing->block * kTokenBlock;
  const std::string what = lacks_tokens
                               ? fmt::format("its tokens from {} on", token)
                               : fmt::format("panel {} of tokens {}..{}", missing->panel, token,
                                             min_of(state_.call().y.rows, token + kTokenBlock) - 1);
  return fmt::format(
      "[{}] rank {} worker {} waited {} ms for rank {}: {}, expected epoch {}, seen {}; {}",
      to_string(lacks_tokens ? Stage::dispatch_gemm : Stage::gemm_combine), dims_.rank,
      worker.index, milliseconds, missing->source, what, state_.call().epoch, missing->seen,
      world_.progress->describe_cause(missing->source));
}

}  // namespace comet
