// SPDX-License-Identifier: Apache-2.0
#include "base/name_table.hpp"
#include "comet/layer.hpp"

namespace comet {
namespace {

constexpr NameTable<Schedule, 4> kSchedules{{{Schedule::reference, "reference"},
                                             {Schedule::sequential, "sequential"},
                                             {Schedule::pipelined, "pipelined"},
                                             {Schedule::comet, "comet"}}};

constexpr NameTable<Placement, 2> kPlacements{
    {{Placement::warps, "warps"}, {Placement::blocks, "blocks"}}};

}  // namespace

std::string_view to_string(Schedule schedule) noexcept { return name_of(kSchedules, schedule); }

Schedule parse_schedule(std::string_view name) { return parse_name(kSchedules, "schedule", name); }

std::string_view to_string(Placement placement) noexcept { return name_of(kPlacements, placement); }

Placement parse_placement(std::string_view name) {
  return parse_name(kPlacements, "placement", name);
}

}  // namespace comet
