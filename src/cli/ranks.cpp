// SPDX-License-Identifier: Apache-2.0
#include "cli/ranks.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <utility>
#include <vector>

#include "base/check.hpp"
#include "base/env.hpp"
#include "cli/blocked_signals.hpp"
#include "cli/exit_code.hpp"
#include "cli/output.hpp"
#include "comet/mpi_world.hpp"
#include "comm/mpi/mpi_group.hpp"
#include "comm/process/introduction.hpp"
#include "comm/process/process_world.hpp"
#include "comm/world_view.hpp"

namespace comet::cli {
namespace {

// A process that is one rank needs few of the queues to a GPU, of which those that share one by MPS
// have not enough for 32 each, what list_gpus would ask for. Before CUDA starts.
void ask_for_few_queues() { ::setenv("CUDA_DEVICE_MAX_CONNECTIONS", "8", 0); }

// What the world failed of, if `sentence` of this rank's GPU is what that looks like from here.
std::string find_cause(World& world, ErrorCode code, const std::string& sentence) {
  const WorldView& view = world.view();
  if (code != ErrorCode::internal || view.device == nullptr) return sentence;
  view.await_cause();
  try {
    if (view.failures->failed()) view.failures->rethrow(view.rank);
  } catch (const Error& error) {
    return error.what();
  }
  return sentence;
}

}  // namespace

Ranks::Ranks(std::unique_ptr<LaunchedGroup> launched)
    : launched_(std::move(launched)), is_launched_(launched_ != nullptr) {
  if (is_launched_) {
    place_ = Place{launched_->rank(), launched_->size()};
    told_errors_ = &launched_->arena().words().told_errors;
  } else if (const std::optional<MpiPlace> place = find_mpi_place()) {
    place_ = Place{place->rank, place->size};
  }
}

Ranks::~Ranks() = default;

void Ranks::choose(const WorldChoice& choice) {
  ranks_ = choice.ranks;
  kind_ = choice.kind;
  is_on_gpus_ = kind_ == WorldKind::nvshmem;
  check(!is_on_gpus_ || place_, ErrorCode::invalid_argument,
        "[world] nvshmem: such ranks are processes: start them by 'comet launch --ranks <ranks> "
        "--gpus <gpus> -- ...' or mpirun");
  if (kind_ == WorldKind::automatic || is_on_gpus_) {
    kind_ = is_launched_ ? WorldKind::process : place_ ? WorldKind::mpi : WorldKind::local;
  }
  check(is_launched_ || kind_ != WorldKind::process, ErrorCode::invalid_argument,
        "[world] process: such ranks are started by 'comet launch --ranks <ranks> -- ...'");
  check(!is_launched_ || kind_ == WorldKind::process, ErrorCode::invalid_argument,
        "[world] {}: the ranks are the processes that comet launch has started, leave --world out",
        kind());
  if (kind_ != WorldKind::local) ask_for_few_queues();
  if (!is_first()) mute_output();
}

bool Ranks::is_first() const noexcept {
  if (kind_ == WorldKind::local) return true;
  if (world_) return world_->rank() == 0;
  return !place_ || place_->rank == 0;
}

std::int64_t Ranks::fixed() const noexcept {
  if (kind_ == WorldKind::local) return ranks_;
  if (world_) return world_->size();
  return place_ ? place_->size : 0;
}

void Ranks::make_world(Backend backend) {
  has_joined_ = true;
  const char* const starter = is_launched_ ? "comet launch" : place_ ? "mpirun" : "somebody";
  end_watch_ = std::make_unique<EndWatch>(starter, place_ ? place_->rank : 0,
                                          [this](const std::string& sentence) { tell(sentence); });
  if (is_launched_) {
    world_ = std::make_unique<ProcessWorld>(std::move(launched_), env().timeout, backend);
  } else {
    world_ = make_mpi_world(std::chrono::milliseconds(0), backend);
    told_errors_ = world_->view().host_word;
  }
  end_watch_->set_world(*world_);
}

void Ranks::join(const RunDescription& own, Backend backend) {
  if (kind_ == WorldKind::local) return;
  check(!is_on_gpus_ || backend == Backend::cuda, ErrorCode::invalid_argument,
        "[world] nvshmem: its ranks run on GPUs: add --backend cuda");
  make_world(backend);
  if (!is_first()) mute_output();
  check_alike(*world_, own);
}

WorldRunner Ranks::runner() const {
  return world_ ? run_on(*world_) : WorldRunner(run_local_world);
}

void Ranks::check_fits(Backend backend, const LinkSpec& link) const {
  if (kind_ == WorldKind::local || link.kind == LinkSpec::Kind::native) return;
  check(
      backend == Backend::cuda && link.kind == LinkSpec::Kind::paced, ErrorCode::unsupported,
      "[world] {}: link {} is for ranks of one process{}: run it {}with --world local:{}, or with "
      "--link native",
      kind(), to_string(link), backend == Backend::cpu ? ", whose clocks all see" : "",
      is_launched_ ? "without comet launch and "
      : place_     ? "without mpirun and "
                   : "",
      std::max<std::int64_t>(fixed(), 1));
}

void Ranks::check_alone(const char* what) const {
  check(!place_, ErrorCode::invalid_argument,
        "[world] {}: this is one of {} processes that {} has started, which are ranks already",
        what, place_ ? place_->size : 1, is_launched_ ? "comet launch" : "mpirun");
}

int Ranks::leave(int code) {
  if (!world_) return code;
  std::vector<int> codes(static_cast<std::size_t>(world_->size()));
  world_->all_gather(&code, codes.data(), sizeof(code));
  return *std::max_element(codes.begin(), codes.end());
}

void Ranks::tell(const std::string& sentence) {
  if (told_errors_ == nullptr || std::atomic_ref(*told_errors_).exchange(1) == 0) {
    print_error(sentence);
  }
}

// What is wrong with the command line of all should be said once, and what is wrong with one rank's
// should not leave the others waiting. mpirun ends this process as soon as another has ended, which
// may be before this one has spoken.
bool Ranks::is_first_to_refuse(const std::string& sentence) {
  has_joined_ = true;
  const BlockedSignals blocked{SIGTERM, SIGINT};
  return refuse_world(*start_mpi_group(), sentence) == place_->rank;
}

int Ranks::fail(ErrorCode code, const std::string& sentence) noexcept {
  bool speaks = true;
  try {
    if (!has_joined_ && place_ && !is_launched_ && kind_ != WorldKind::local) {
      speaks = is_first_to_refuse(sentence);
    } else if (!world_ && !is_launched_) {
      speaks = code != ErrorCode::peer;  // that rank does
    }
  } catch (const std::exception&) {  // then each process speaks for itself
  }
  if (!speaks) return exit_code_of(code);
  try {
    tell(world_ ? find_cause(*world_, code, sentence) : sentence);
    if (world_) world_->view().report_failure(code, sentence);
  } catch (const std::exception&) {
    print_error(sentence);
  }
  return exit_code_of(code);
}

}  // namespace comet::cli
