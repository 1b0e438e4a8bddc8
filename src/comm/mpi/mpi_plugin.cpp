// SPDX-License-Identifier: Apache-2.0
// libcomet_mpi.so: a ProcessGroup of the processes that mpirun has started.
#include <fmt/core.h>
#include <mpi.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "comm/mpi/mpi_group.hpp"

namespace comet {
namespace {

std::string text_of(int error) {
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  if (MPI_Error_string(error, text, &length) != MPI_SUCCESS) return fmt::format("error {}", error);
  return {text, static_cast<std::size_t>(length)};
}

// Groups that have not been left: MPI then cannot be ended, which would wait for all ranks.
int num_open_groups = 0;

void end_mpi() {
  if (num_open_groups == 0) MPI_Finalize();
}

class MpiGroup final : public ProcessGroup {
 public:
  MpiGroup(MPI_Comm comm, std::string host) : comm_(comm), host_(std::move(host)) {
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
    ++num_open_groups;
  }

  std::string_view kind() const noexcept override { return "mpi"; }
  int rank() const noexcept override { return rank_; }
  int size() const noexcept override { return size_; }
  std::string_view host() const noexcept override { return host_; }

  void all_gather(const void* in, void* out, std::size_t bytes) override {
    const int count = static_cast<int>(bytes);
    MPI_Allgather(in, count, MPI_BYTE, out, count, MPI_BYTE, comm_);
  }

  void leave() noexcept override {
    MPI_Comm_free(&comm_);
    --num_open_groups;
  }

 private:
  MPI_Comm comm_;
  std::string host_;
  int rank_ = 0;
  int size_ = 1;
};

std::string start_group(MpiStart& start) {
  int is_started = 0;
  int is_over = 0;
  MPI_Initialized(&is_started);
  MPI_Finalized(&is_over);
  if (is_over != 0) return "[world] mpi: MPI has been finalized, and starts only once a process";
  if (is_started == 0) {
    int provided = MPI_THREAD_SINGLE;
    const int error = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);
    if (error != MPI_SUCCESS) return "[world] mpi: MPI_Init_thread: " + text_of(error);
    if (provided < MPI_THREAD_SERIALIZED) {
      return "[world] mpi: this MPI lets one thread call it only, calls come from the world's";
    }
    std::atexit(&end_mpi);
  }
  MPI_Comm comm = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &comm);
  MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
  start.group = new MpiGroup(comm, start.host);
  return {};
}

}  // namespace
}  // namespace comet

extern "C" __attribute__((visibility("default"))) void comet_mpi_start(comet::MpiStart* start) {
  const std::string error = comet::start_group(*start);
  const std::size_t length = std::min(error.size(), sizeof(start->error) - 1);
  std::memcpy(start->error, error.data(), length);
  start->error[length] = '\0';
}
