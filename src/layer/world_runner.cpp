// SPDX-License-Identifier: Apache-2.0
#include "layer/world_runner.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <thread>

#include "base/check.hpp"
#include "comm/link_spec.hpp"
#include "comm/world_view.hpp"

namespace comet {
namespace {

void check_fits(const World& world, int size, const LocalWorldOptions& options) {
  check(size == world.size(), ErrorCode::invalid_argument,
        "[world] {}: {} ranks are there, {} are asked for", world.kind(), world.size(), size);
  check(options.backend == world.backend(), ErrorCode::unsupported,
        "[world] {}: layers run on {}, not on {}", world.kind(), to_string(world.backend()),
        to_string(options.backend));
}

// A rank that has died is what others stumble over: the world names it within milliseconds, and
// that is then the failure.
[[noreturn]] void fail_world(const WorldView& view, const Error& error) {
  constexpr int kLooks = 30;
  for (int look = 0; look < kLooks && !view.failures->failed(); ++look) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  view.report_failure(error.code(), error.what());
  view.failures->rethrow(view.rank);
}

}  // namespace

WorldRunner run_on(World& world) {
  return [&world](int size, const LocalWorldOptions& options,
                  const std::function<void(World&)>& body) {
    check_fits(world, size, options);
    if (!is_same_link(world.link(), options.link)) world.set_link(options.link);
    try {
      body(world);
    } catch (const Error& error) {
      fail_world(world.view(), error);
    } catch (const std::exception& error) {
      const Error named(ErrorCode::internal,
                        fmt::format("[world] rank {}: {}", world.rank(), error.what()));
      fail_world(world.view(), named);
    }
  };
}

bool is_one_process(const World& world) noexcept { return world.kind() == "local"; }

std::vector<std::vector<std::byte>> gather_bytes(World& world, std::span<const std::byte> own) {
  const auto size = static_cast<std::size_t>(world.size());
  const std::uint64_t own_bytes = own.size();
  std::vector<std::uint64_t> bytes(size);
  world.all_gather(&own_bytes, bytes.data(), sizeof(own_bytes));
  const std::size_t most = *std::max_element(bytes.begin(), bytes.end());
  std::vector<std::byte> padded(own.begin(), own.end());
  padded.resize(most);
  std::vector<std::byte> all(most * size);
  if (most > 0) world.all_gather(padded.data(), all.data(), most);
  std::vector<std::vector<std::byte>> gathered;
  for (std::size_t rank = 0; rank < size; ++rank) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(rank * most);
    gathered.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(bytes[rank]));
  }
  return gathered;
}

}  // namespace comet
