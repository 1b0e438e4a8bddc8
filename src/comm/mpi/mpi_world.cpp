// SPDX-License-Identifier: Apache-2.0
#include "comet/mpi_world.hpp"

#include <dlfcn.h>

#include "base/check.hpp"
#include "base/env.hpp"
#include "comm/mpi/mpi_group.hpp"
#include "comm/plugin.hpp"
#include "comm/process/process_world.hpp"

namespace comet {
namespace {

MpiStartFunction* find_start() {
  const Plugin plugin = load_plugin(kMpiPlugin);
  check(plugin.handle != nullptr, ErrorCode::unsupported,
        "[world] mpi: {} cannot be loaded: {}; 'make build' makes it once Open MPI is installed "
        "(libopenmpi-dev), or use world local",
        kMpiPlugin, plugin.reason);
  return reinterpret_cast<MpiStartFunction*>(::dlsym(plugin.handle, kMpiSymbol));
}

}  // namespace

std::string why_no_mpi() {
  constexpr std::string_view kStage = "[world] mpi: ";
  try {
    find_start();
    return {};
  } catch (const Error& error) {
    return std::string(error.what()).substr(kStage.size());
  }
}

std::unique_ptr<ProcessGroup> start_mpi_group() {
  MpiStartFunction* const start_mpi = find_start();
  check(start_mpi != nullptr, ErrorCode::internal, "[world] mpi: {} lacks {}", kMpiPlugin,
        kMpiSymbol);
  MpiStart start;
  start.host = env().host.c_str();
  start_mpi(&start);
  check(start.group != nullptr, ErrorCode::unsupported, "{}", start.error);
  return std::unique_ptr<ProcessGroup>(start.group);
}

std::unique_ptr<World> make_mpi_world(std::chrono::milliseconds timeout, Backend backend) {
  check(timeout.count() >= 0 && timeout <= std::chrono::hours(24), ErrorCode::invalid_argument,
        "[world] timeout: {} ms, from 0 to 86400000", timeout.count());
  return std::make_unique<ProcessWorld>(start_mpi_group(),
                                        timeout.count() > 0 ? timeout : env().timeout, backend);
}

}  // namespace comet
