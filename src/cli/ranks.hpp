// SPDX-License-Identifier: Apache-2.0
// Ranks: where the ranks of a command live. They are threads that it makes by itself, or processes,
// of which this is one; then one speaks for all.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "cli/end_watch.hpp"
#include "cli/run_description.hpp"
#include "cli/world_choice.hpp"
#include "comet/error.hpp"
#include "comm/launch/launched_group.hpp"
#include "layer/world_runner.hpp"

namespace comet::cli {

class Ranks {
 public:
  /// `launched` is this process's end of `comet launch`, null if it was started otherwise.
  explicit Ranks(std::unique_ptr<LaunchedGroup> launched);
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  /// Takes what --world says; every process but the first falls silent. Throws
  /// Error(invalid_argument) if it contradicts how the process was started.
  void choose(const WorldChoice& choice);
  /// Collective: joins the other processes, if ranks are processes, and compares what all run.
  /// Throws Error(invalid_argument) if --world asks for another backend than `backend`.
  void join(const RunDescription& own, Backend backend);

  /// Whether this process shows results and writes files.
  bool is_first() const noexcept;
  /// Number of ranks that is fixed, by "local:<ranks>" or by the processes; 0 is none.
  std::int64_t fixed() const noexcept;
  /// "local", "mpi", "process" or "nvshmem".
  std::string_view kind() const noexcept { return world_ ? world_->kind() : to_string(kind_); }
  /// The world of processes; null if ranks are threads.
  World* world() const noexcept { return world_.get(); }
  /// Runs bodies on these ranks.
  WorldRunner runner() const;
  /// Throws Error(unsupported) for a link that ranks which are processes do not have. Before any
  /// work.
  void check_fits(Backend backend, const LinkSpec& link) const;

  /// Throws Error(invalid_argument) if others were started together with this process; `what` is
  /// for one alone.
  void check_alone(const char* what) const;

  /// Collective: the largest of all ranks' exit codes.
  int leave(int code);
  /// Says what went wrong, once for all processes, and ends the waits of the others. Returns the
  /// exit code.
  int fail(ErrorCode code, const std::string& sentence) noexcept;

 private:
  struct Place {
    int rank;
    int size;
  };

  void make_world(Backend backend);
  bool is_first_to_refuse(const std::string& sentence);
  void tell(const std::string& sentence);

  std::unique_ptr<LaunchedGroup> launched_;  // until there is a world
  bool is_launched_;
  std::optional<Place> place_;            // among the processes that were started together
  std::uint32_t* told_errors_ = nullptr;  // shared by the processes; nonzero once one has told
  WorldKind kind_ = WorldKind::automatic;
  std::int64_t ranks_ = 0;   // of "local:<ranks>"
  bool is_on_gpus_ = false;  // --world says nvshmem
  bool has_joined_ = false;  // or tried to
  std::unique_ptr<World> world_;
  std::unique_ptr<EndWatch> end_watch_;
};

}  // namespace comet::cli
