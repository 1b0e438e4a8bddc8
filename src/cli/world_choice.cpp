// SPDX-License-Identifier: Apache-2.0
#include "cli/world_choice.hpp"

#include "base/check.hpp"
#include "base/name_table.hpp"
#include "base/read_number.hpp"
#include "cli/shared_flags.hpp"

namespace comet::cli {
namespace {

constexpr NameTable<WorldKind, 5> kWorldKinds{{{WorldKind::automatic, "automatic"},
                                               {WorldKind::local, "local"},
                                               {WorldKind::mpi, "mpi"},
                                               {WorldKind::process, "process"},
                                               {WorldKind::nvshmem, "nvshmem"}}};

}  // namespace

std::string_view to_string(WorldKind kind) noexcept { return name_of(kWorldKinds, kind); }

WorldChoice parse_world(std::string_view text) {
  constexpr std::string_view kLocal = "local";
  const std::string_view kind = text.substr(0, text.find(':'));
  for (const WorldKind named :
       {WorldKind::local, WorldKind::mpi, WorldKind::process, WorldKind::nvshmem}) {
    if (text == to_string(named)) return {.kind = named};
    check(kind == kLocal || kind != to_string(named), ErrorCode::invalid_argument,
          "[world] unknown world '{}': {} alone, whoever starts its processes says how many", text,
          kind);
  }
  std::int64_t ranks = 0;
  if (kind == kLocal && text.size() > kLocal.size() + 1) {
    ranks = read_number<std::int64_t>(text.substr(kLocal.size() + 1)).value_or(0);
  }
  check(ranks >= 1 && ranks <= kMaxRanks, ErrorCode::invalid_argument,
        "[world] unknown world '{}': local, local:<ranks> with 1 to {} ranks, mpi, process or "
        "nvshmem",
        text, kMaxRanks);
  return {.kind = WorldKind::local, .ranks = ranks};
}

}  // namespace comet::cli
