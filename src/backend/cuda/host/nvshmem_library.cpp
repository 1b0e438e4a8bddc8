// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/host/nvshmem_library.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/check.hpp"
#include "base/env.hpp"
#include "comm/plugin.hpp"

namespace comet {
namespace cuda {
namespace {

constexpr const char* kLibrary = "libnvshmem_host.so.3";

// What a rank shows of the job that it is in.
struct Membership {
  std::uint64_t job = 0;  ///< Of its id's bytes; 0: none.
  std::int32_t rank = -1;
  std::int32_t size = 0;
};

// This process's, if it has started; guarded by world making, which one thread does at a time.
struct Joined {
  Membership membership;
  std::unique_ptr<SymmetricHeap> heap;
};
Joined& joined() {
  static Joined instance;
  return instance;
}

// NVSHMEM reads its settings as it starts; the user's stay. Multicast is off since a program that
// ends badly while it uses it can leave the GPUs of a host unusable.
void prepare_environment(bool is_one_host) {
  ::setenv("NVSHMEM_DISABLE_NVLS", "1", 0);
  if (is_one_host) ::setenv("NVSHMEM_REMOTE_TRANSPORT", "none", 0);
  const std::string& name = env().interface_name;
  if (!name.empty()) ::setenv("NVSHMEM_BOOTSTRAP_UID_SOCK_IFNAME", name.c_str(), 0);
}

// The plugin finds NVSHMEM loaded already, from NVSHMEM_HOME, which may be the folder of its Python
// package; where it was built, as long as it is not installed; then beside itself, or in that
// package if it lies in one beside it; or where the loader looks.
const NvshmemFunctions* find_functions(std::string& reason) {
  if (const char* home = std::getenv("NVSHMEM_HOME"); home != nullptr && *home != '\0') {
    ::dlopen((std::string(home) + "/lib/" + kLibrary).c_str(), RTLD_NOW | RTLD_GLOBAL);
  }
  const Plugin plugin = load_plugin(kNvshmemPlugin);
  if (plugin.handle == nullptr) {
    reason = plugin.reason;
    return nullptr;
  }
  auto* const find =
      reinterpret_cast<NvshmemFunctionsFunction*>(::dlsym(plugin.handle, kNvshmemSymbol));
  const NvshmemFunctions* const functions = find != nullptr ? find() : nullptr;
  if (functions != nullptr && functions->call_bytes == sizeof(CallParams)) return functions;
  reason = "it is of another build";
  return nullptr;
}

std::string explain_lack(const std::string& reason) {
  return fmt::format(
      "{} cannot be loaded: {}; it is built where NVSHMEM is (pip install nvidia-nvshmem-cu13, or "
      "NVSHMEM_HOME) and needs that at run time, too",
      kNvshmemPlugin, reason);
}

const NvshmemFunctions& require_functions() {
  std::string reason;
  const NvshmemFunctions* const functions = find_functions(reason);
  check(functions != nullptr, ErrorCode::unsupported, "[world] nvshmem: {}", explain_lack(reason));
  return *functions;
}

std::uint64_t hash_of(const std::vector<std::byte>& bytes) {
  std::uint64_t hash = 14695981039346656037ULL;  // FNV-1a
  for (const std::byte byte : bytes) {
    hash = (hash ^ static_cast<std::uint64_t>(byte)) * 1099511628211ULL;
  }
  return hash | 1U;  // 0 is none
}

// The id that rank 0 has made, on all ranks.
std::vector<std::byte> share_id(const ProcessDeviceOptions& options,
                                const NvshmemFunctions& functions) {
  std::vector<std::byte> own(functions.id_bytes);
  do_together(options, [&] {
    check(options.rank != 0 || functions.make_id(own.data()), ErrorCode::unsupported,
          "[world] nvshmem: it makes no id, see NVSHMEM_DEBUG=INFO");
  });
  std::vector<std::byte> all(own.size() * static_cast<std::size_t>(options.size));
  options.all_gather(own.data(), all.data(), own.size());
  all.resize(own.size());
  return all;
}

// Whether all ranks are in one job, as these ranks. Throws if some are in another.
bool are_joined(const ProcessDeviceOptions& options) {
  std::vector<Membership> all(static_cast<std::size_t>(options.size));
  options.all_gather(&joined().membership, all.data(), sizeof(Membership));
  const std::uint64_t job = all.front().job;
  for (int rank = 0; rank < options.size; ++rank) {
    const Membership& other = all[static_cast<std::size_t>(rank)];
    const bool is_alike =
        other.job == job && (job == 0 || (other.rank == rank && other.size == options.size));
    check(is_alike, ErrorCode::unsupported,
          "[world] nvshmem: rank {} is in a set of {} processes already: a process belongs to one "
          "until it ends, so its worlds on GPUs have the same ranks in the same order",
          other.job != 0 ? rank : 0, other.job != 0 ? other.size : all.front().size);
  }
  return job != 0;
}

}  // namespace

void do_together(const ProcessDeviceOptions& options, const std::function<void()>& step) {
  struct Outcome {
    std::int32_t code = 0;  // 0, or 1 + ErrorCode
    char sentence[500] = {};
  } own;
  try {
    step();
  } catch (const Error& error) {
    own.code = 1 + static_cast<std::int32_t>(error.code());
    std::strncpy(own.sentence, error.what(), sizeof(own.sentence) - 1);
  }
  std::vector<Outcome> all(static_cast<std::size_t>(options.size));
  options.all_gather(&own, all.data(), sizeof(own));
  for (const Outcome& outcome : all) {
    if (outcome.code != 0) {
      throw Error(static_cast<ErrorCode>(outcome.code - 1), std::string(outcome.sentence));
    }
  }
}

void check_memory_together(const ProcessDeviceOptions& options,
                           const std::function<DeviceMemory()>& own) {
  DeviceMemory memory;
  do_together(options, [&] { memory = own(); });
  std::vector<DeviceMemory> all(static_cast<std::size_t>(options.size));
  options.all_gather(&memory, all.data(), sizeof(memory));
  check_memory(all);
}

SymmetricHeap& join_nvshmem(const ProcessDeviceOptions& options, int sharers) {
  if (are_joined(options)) return *joined().heap;
  prepare_environment(options.ranks_on_host == options.size);
  const NvshmemFunctions* functions = nullptr;
  do_together(options, [&] { functions = &require_functions(); });
  check_memory_together(options, [&] { return SymmetricHeap::memory_to_start(sharers); });
  const std::vector<std::byte> id = share_id(options, *functions);
  NvshmemStart start{.rank = options.rank, .size = options.size, .id = id.data()};
  do_together(options, [&] {
    functions->start(&start);
    check(start.job != nullptr, ErrorCode::unsupported,
          "[world] nvshmem: rank {}: {}; see NVSHMEM_DEBUG=INFO", options.rank, start.error);
  });
  joined() = {{hash_of(id), options.rank, options.size},
              std::make_unique<SymmetricHeap>(*start.job, options, sharers)};
  return *joined().heap;
}

}  // namespace cuda

std::string why_no_nvshmem() {
  std::string reason;
  return cuda::find_functions(reason) != nullptr ? std::string() : cuda::explain_lack(reason);
}

}  // namespace comet
