// SPDX-License-Identifier: Apache-2.0
#include "check/random_stop.hpp"

#include <fmt/core.h>

#include <atomic>
#include <charconv>
#include <condition_variable>
#include <mutex>
#include <stdexcept>

#include "base/name_table.hpp"
#include "check/rng.hpp"

namespace comet {
namespace {

using Clock = std::chrono::steady_clock;

constexpr NameTable<StopKind, 3> kKinds{{{StopKind::blocks, "blocks"},
                                         {StopKind::throws, "throws"},
                                         {StopKind::stays_away, "stays away"}}};
constexpr TraceKind kPhases[] = {TraceKind::publish,     TraceKind::headers, TraceKind::plan,
                                 TraceKind::gather,      TraceKind::pull,    TraceKind::first_gemm,
                                 TraceKind::second_gemm, TraceKind::push,    TraceKind::home_sum,
                                 TraceKind::wait};

constexpr std::uint64_t kStopStream = 5'000'000;
constexpr std::string_view kPlanted = "planted fault";
constexpr int kNumGoodCalls = 2;  // with other tokens each, so that stale partials show
constexpr int kMostAttempts = 4;
constexpr std::chrono::seconds kGrace(1);  // beyond the timeout, for a rank to report

std::int64_t to_ms(Clock::duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

// One point of a run: lets the rank fail there once, and holds it until the others have noticed.
class Gate {
 public:
  Gate(const StopPoint& point, std::int64_t world_size, Clock::duration limit)
      : point_(point), num_others_(world_size - 1), limit_(limit) {}

  // The stopping rank begins its call number `attempt` of this point.
  void set_attempt(int attempt) { attempt_.store(attempt, std::memory_order_relaxed); }

  void probe(const ProbePoint& at) {
    if (point_.kind == StopKind::stays_away || at.rank != point_.rank) return;
    const int attempt = attempt_.load(std::memory_order_relaxed);
    const bool here = at.phase == point_.phase || attempt >= 2;
    const bool this_worker = at.worker == point_.worker || point_.worker < 0 || attempt >= 1;
    if (!here || !this_worker || fired_.exchange(true, std::memory_order_relaxed)) return;
    if (point_.kind == StopKind::blocks) return hold();
    {
      const std::lock_guard lock(mutex_);
      stopped_at_ = Clock::now();
    }
    throw std::runtime_error(std::string(kPlanted));
  }

  void hold() {
    std::unique_lock lock(mutex_);
    stopped_at_ = Clock::now();
    changed_.wait_for(lock, limit_, [&] { return num_done_ == num_others_; });
  }

  // Another rank has got its error and checked that further calls throw.
  void done() {
    const std::lock_guard lock(mutex_);
    ++num_done_;
    changed_.notify_all();
  }

  // When the rank stopped; the clock's origin if it has not.
  Clock::time_point stopped_at() const {
    const std::lock_guard lock(mutex_);
    return stopped_at_;
  }

 private:
  const StopPoint point_;
  const std::int64_t num_others_;
  const Clock::duration limit_;
  std::atomic<int> attempt_{0};
  std::atomic<bool> fired_{false};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Clock::time_point stopped_at_{};
  std::int64_t num_done_ = 0;
};

// What all ranks of a run share.
struct Shared {
  const StopCase& stop;
  const StopOptions& options;
  CaseWeights weights;
  Calls calls;
  Run run;
  std::vector<std::unique_ptr<Gate>> gates;         // [point]
  std::vector<std::vector<std::string>> sentences;  // [point][rank]
  std::mutex mutex;
  std::string failure = {};  // the first

  void fail(const std::string& sentence) {
    const std::lock_guard lock(mutex);
    if (failure.empty()) failure = sentence;
  }
};

// One rank's part of run_stop.
class StopBody {
 public:
  StopBody(Shared& shared, World& world)
      : shared_(shared),
        stop_(shared.stop),
        world_(world),
        rank_(world.rank()),
        layer_(MoeLayer::create(stop_.c.desc, stop_.c.parallel, shared.weights.ranks[rank_].view,
                                world, stop_.c.options.at(rank_))) {}

  void run() {
    for (int call = 0; call < kNumGoodCalls; ++call) good_.push_back(forward(call, nullptr));
    for (std::size_t i = 0; i < stop_.points.size(); ++i) {
      world_.barrier();
      fail_at(i);
      recover();
      for (int call = 0; call < kNumGoodCalls; ++call) {
        if (forward(call, nullptr) == good_[call]) continue;
        shared_.fail(fmt::format("rank {}: good call {} after recovery {} gives other bits", rank_,
                                 call, i));
      }
    }
  }

 private:
  Bytes forward(int index, Gate* gate) {
    const RankCall& call = shared_.calls[index][rank_];
    Bytes bytes(call.tokens * call.row_stride * size_of(call.dtype), kCanary);
    const MatrixView y{bytes.data(), call.tokens, call.hidden, call.row_stride, call.dtype};
    ForwardOptions options = shared_.run.options[rank_];
    options.probe = [gate](const ProbePoint& at) {
      if (gate != nullptr) gate->probe(at);  // without a probe, small calls would run on one worker
    };
    layer_->forward(call.x_view(), call.routing_view(), y, options);
    return bytes;
  }

  // Calls until an error comes; empty if none does.
  std::string call_until_error(const StopPoint& point, Gate& gate) {
    for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
      if (rank_ == point.rank) {
        gate.set_attempt(attempt);
        if (point.kind == StopKind::stays_away) gate.hold();
      }
      try {
        forward(attempt % kNumGoodCalls, &gate);
      } catch (const Error& error) {
        return error.what();
      }
    }
    return {};
  }

  void fail_at(std::size_t index) {
    const StopPoint& point = stop_.points[index];
    Gate& gate = *shared_.gates[index];
    const std::string sentence = call_until_error(point, gate);
    const Clock::time_point thrown = Clock::now();
    shared_.sentences[index][rank_] = sentence;
    if (rank_ == point.rank) return;
    const Clock::duration limit = shared_.options.timeout + kGrace;
    const Clock::time_point stopped = gate.stopped_at();
    if (stopped == Clock::time_point{}) {
      shared_.fail(fmt::format("rank {} threw before any rank stopped: {}", rank_, sentence));
    } else if (thrown - stopped > limit) {
      shared_.fail(fmt::format("rank {} threw {} ms after the stop, limit {}: {}", rank_,
                               to_ms(thrown - stopped), to_ms(limit), sentence));
    }
    expect_refusal(sentence);
    gate.done();
  }

  // A failed world throws the same again, without waiting for anybody.
  void expect_refusal(const std::string& sentence) {
    const Clock::time_point start = Clock::now();
    std::string again;
    try {
      forward(0, nullptr);
    } catch (const Error& error) {
      again = error.what();
    }
    const Clock::duration took = Clock::now() - start;
    if (again != sentence || took > shared_.options.timeout / 2) {
      shared_.fail(fmt::format("rank {}: a further call took {} ms and gave \"{}\" after \"{}\"",
                               rank_, to_ms(took), again, sentence));
    }
  }

  // Ranks come at different times: one that was held, later than the others may wait.
  void recover() {
    for (const Clock::time_point start = Clock::now();;) {
      try {
        return world_.recover();
      } catch (const Error&) {
        if (Clock::now() - start > 5 * (shared_.options.timeout + kGrace)) throw;
      }
    }
  }

  Shared& shared_;
  const StopCase& stop_;
  World& world_;
  const int rank_;
  std::unique_ptr<MoeLayer> layer_;
  std::vector<Bytes> good_;  // [call]
};

std::string judge_sentences(const StopPoint& point, const std::vector<std::string>& sentences) {
  const std::string& first = sentences[0];
  for (std::size_t rank = 0; rank < sentences.size(); ++rank) {
    if (sentences[rank].empty()) return fmt::format("rank {} got no error", rank);
    if (sentences[rank] == first) continue;
    return fmt::format("rank {} threw \"{}\", rank 0 \"{}\"", rank, sentences[rank], first);
  }
  if (point.kind != StopKind::throws) {
    const int cause = cause_in(first);
    return cause == point.rank
               ? std::string{}
               : fmt::format("rank {} is named, not {}: {}", cause, point.rank, first);
  }
  const bool named = first.starts_with(fmt::format("[engine] rank {} worker ", point.rank)) ||
                     first.starts_with(fmt::format("[forward] rank {}: ", point.rank));
  if (named && first.ends_with(kPlanted)) return {};
  return fmt::format("not the planted fault of rank {}: {}", point.rank, first);
}

std::string describe_point(const StopPoint& point) {
  if (point.kind == StopKind::stays_away) return fmt::format("rank {} stays away", point.rank);
  return fmt::format("rank {} {} before {} in {}", point.rank, to_string(point.kind),
                     to_string(point.phase),
                     point.worker < 0 ? "any worker" : fmt::format("worker {}", point.worker));
}

}  // namespace

std::string_view to_string(StopKind kind) noexcept { return name_of(kKinds, kind); }

StopCase random_stop(std::uint64_t seed, std::uint64_t index) {
  StopCase stop;
  for (std::uint64_t draw = 0;; ++draw) {
    stop.c = random_case(seed, index + (draw << 32));
    if (stop.c.world_size() >= 2 && stop.c.world_size() <= 6) break;
  }
  stop.c.delays = DelayKind::none;
  Rng rng(seed, kStopStream + index);
  stop.schedule = rng.pick({Schedule::sequential, Schedule::pipelined, Schedule::comet,
                            Schedule::comet, Schedule::comet});
  StopPoint point;
  point.kind =
      rng.pick({StopKind::blocks, StopKind::blocks, StopKind::blocks, StopKind::blocks,
                StopKind::blocks, StopKind::blocks, StopKind::throws, StopKind::stays_away});
  point.phase = kPhases[rng.between(0, std::ssize(kPhases) - 1)];
  point.rank = static_cast<int>(rng.between(0, stop.c.world_size() - 1));
  point.worker = static_cast<int>(rng.between(-1, stop.c.options[point.rank].num_workers - 1));
  stop.points = {point};
  return stop;
}

std::string describe(const StopCase& stop) {
  std::string text;
  for (const StopPoint& point : stop.points) text += describe_point(point) + "; ";
  return fmt::format("{}{}; {}", text, to_string(stop.schedule), describe(stop.c));
}

CaseResult run_stop(const StopCase& stop, const StopOptions& options) {
  return guard_case([&](CaseResult& result) -> std::string {
    Shared shared{.stop = stop,
                  .options = options,
                  .weights = make_weights(stop.c),
                  .calls = {},
                  .run = make_run(stop.c, stop.schedule, 0),
                  .gates = {},
                  .sentences = {},
                  .mutex = {}};
    for (int call = 0; call < kNumGoodCalls; ++call)
      shared.calls.push_back(make_call(stop.c, call));
    for (const StopPoint& point : stop.points) {
      // Twice the limit of the ranks' reports, so that a late report is told from none.
      shared.gates.push_back(
          std::make_unique<Gate>(point, stop.c.world_size(), 2 * (options.timeout + kGrace)));
      shared.sentences.emplace_back(stop.c.world_size());
    }
    std::string thrown;
    try {
      options.world(static_cast<int>(stop.c.world_size()),
                    {.link = stop.c.link, .timeout = options.timeout},
                    [&](World& world) { StopBody(shared, world).run(); });
    } catch (const Error& error) {
      thrown = error.what();
    }
    result.forwards = 2 * kNumGoodCalls * std::ssize(stop.points);
    if (!shared.failure.empty()) return shared.failure;
    if (!thrown.empty()) return "a rank threw where none should: " + thrown;
    for (std::size_t i = 0; i < stop.points.size(); ++i) {
      std::string failure = judge_sentences(stop.points[i], shared.sentences[i]);
      if (!failure.empty()) return fmt::format("stop {}: {}", i, failure);
    }
    return {};
  });
}

int cause_in(std::string_view sentence) {
  constexpr std::string_view kCause = "cause: rank ";
  const std::size_t at = sentence.find(kCause);
  int rank = -1;
  if (at == std::string_view::npos) return rank;
  const std::string_view number = sentence.substr(at + kCause.size());
  std::from_chars(number.data(), number.data() + number.size(), rank);
  return rank;
}

}  // namespace comet
