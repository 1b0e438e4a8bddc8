// SPDX-License-Identifier: Apache-2.0
#include "base/name_table.hpp"
#include "comet/world.hpp"

namespace comet {
namespace {

constexpr NameTable<Backend, 2> kBackends{{{Backend::cpu, "cpu"}, {Backend::cuda, "cuda"}}};

}  // namespace

std::string_view to_string(Backend backend) noexcept { return name_of(kBackends, backend); }
Backend parse_backend(std::string_view name) { return parse_name(kBackends, "backend", name); }

}  // namespace comet
