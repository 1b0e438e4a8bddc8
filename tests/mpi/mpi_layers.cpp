// SPDX-License-Identifier: Apache-2.0
// Run by mpirun: layers on world mpi against world local, bit for bit. Says "ok" on rank 0 and
// exits 0, or says what differs and exits 1.
//
//   mpirun -n N mpi_layers           12 random cases with N ranks, all schedules
//   mpirun -n N mpi_layers die R     rank R kills itself while layers are called; the others exit 0
//                                    if that is what they are told
//   mpirun -n N mpi_layers endure    calls layers until the world fails, says why, and exits 3; its
//                                    waits last 2 s at most
#include <fmt/core.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "comet/mpi_world.hpp"
#include "conformance/process_cases.hpp"

namespace comet {
namespace {

constexpr std::chrono::milliseconds kTimeout(20000);

int check_bits(World& world) {
  int num_different = 0;
  for (const ProcessCase& c : make_process_cases(world.size(), 12, 4)) {
    const std::string difference = c.difference(c.run(run_on(world)));
    if (difference.empty()) continue;
    fmt::print(stderr, "mpi_layers: {}\n", difference);
    ++num_different;
  }
  std::vector<int> of_all(static_cast<std::size_t>(world.size()));
  world.all_gather(&num_different, of_all.data(), sizeof(int));
  for (const int different : of_all) {
    if (different != 0) return 1;
  }
  if (world.rank() == 0) fmt::print("ok: world {}, {} ranks\n", world.kind(), world.size());
  return 0;
}

// Leaves without MPI's end, which would wait for the dead rank.
[[noreturn]] void leave(int code) {
  std::fflush(nullptr);
  std::_Exit(code);
}

int check_death(World& world, int victim) {
  const ProcessCase c = make_process_case(plain_case(world.size(), 5));
  try {
    for (int i = 0;; ++i) {
      if (i == 3 && world.rank() == victim) ::raise(SIGKILL);
      c.run(run_on(world));
    }
  } catch (const Error& error) {
    const std::string wanted = fmt::format("rank {} is gone", victim);
    fmt::print(stderr, "rank {}: {}\n", world.rank(), error.what());
    leave(std::strstr(error.what(), wanted.c_str()) != nullptr ? 0 : 1);
  }
}

int endure(World& world) {
  const ProcessCase c = make_process_case(plain_case(world.size(), 5));
  world.barrier();
  fmt::print("process {} is rank {}\n", ::getpid(), world.rank());
  std::fflush(nullptr);
  try {
    for (;;) {
      c.run([&](int /*size*/, const LocalWorldOptions& /*options*/,
                const std::function<void(World&)>& body) { body(world); });
    }
  } catch (const Error& error) {
    fmt::print("{}\n", error.what());
    leave(3);
  }
}

int run_program(int argc, char** argv) {
  try {
    const bool endures = argc == 2 && std::strcmp(argv[1], "endure") == 0;
    const std::unique_ptr<World> world =
        make_mpi_world(endures ? std::chrono::milliseconds(2000) : kTimeout);
    if (endures) return endure(*world);
    if (argc == 3 && std::strcmp(argv[1], "die") == 0) {
      return check_death(*world, std::atoi(argv[2]));
    }
    return check_bits(*world);
  } catch (const std::exception& error) {
    fmt::print(stderr, "mpi_layers: {}\n", error.what());
    return 1;
  }
}

}  // namespace
}  // namespace comet

int main(int argc, char** argv) { return comet::run_program(argc, argv); }
