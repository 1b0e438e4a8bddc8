// SPDX-License-Identifier: Apache-2.0
#include "comet/mpi_world.hpp"

#include <dlfcn.h>

#include <filesystem>

#include "base/check.hpp"
#include "base/env.hpp"
#include "comm/mpi/mpi_group.hpp"
#include "comm/process/process_world.hpp"

namespace comet {
namespace {

// Where the plugin may lie: beside the library or program that this code is in, where an install
// puts it, and where the loader looks.
std::vector<std::string> plugin_paths() {
  std::vector<std::string> paths;
  Dl_info own{};
  if (::dladdr(reinterpret_cast<const void*>(&plugin_paths), &own) != 0) {
    std::error_code none;
    const auto folder = std::filesystem::canonical(own.dli_fname, none).parent_path();
    for (const char* place : {".", "../lib", "../../lib"}) {
      paths.push_back((folder / place / kMpiPlugin).string());
    }
  }
  paths.emplace_back(kMpiPlugin);
  return paths;
}

// Stays loaded: MPI does not survive being unloaded.
MpiStartFunction* find_start() {
  std::string reason = "it was not found";
  for (const std::string& path : plugin_paths()) {
    if (path.find('/') != std::string::npos && !std::filesystem::exists(path)) continue;
    // MPI opens parts of its own, which find its symbols only if they are global.
    void* const plugin = ::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (plugin != nullptr) {
      return reinterpret_cast<MpiStartFunction*>(::dlsym(plugin, kMpiSymbol));
    }
    if (const char* text = ::dlerror(); text != nullptr && path != kMpiPlugin) reason = text;
  }
  fail(ErrorCode::unsupported,
       "[world] mpi: {} cannot be loaded: {}; 'make build' makes it once Open MPI is installed "
       "(libopenmpi-dev), or use world local",
       kMpiPlugin, reason);
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

std::unique_ptr<World> make_mpi_world(std::chrono::milliseconds timeout) {
  check(timeout.count() >= 0 && timeout <= std::chrono::hours(24), ErrorCode::invalid_argument,
        "[world] timeout: {} ms, from 0 to 86400000", timeout.count());
  MpiStartFunction* const start_mpi = find_start();
  check(start_mpi != nullptr, ErrorCode::internal, "[world] mpi: {} lacks {}", kMpiPlugin,
        kMpiSymbol);
  MpiStart start;
  start.host = env().host.c_str();
  start_mpi(&start);
  check(start.group != nullptr, ErrorCode::unsupported, "{}", start.error);
  std::unique_ptr<ProcessGroup> group(start.group);
  return std::make_unique<ProcessWorld>(std::move(group),
                                        timeout.count() > 0 ? timeout : env().timeout);
}

}  // namespace comet
