// SPDX-License-Identifier: Apache-2.0
#include "base/name_table.hpp"
#include "comet/trace.hpp"

namespace comet {
namespace {

constexpr NameTable<TraceKind, 13> kTraceKinds{{{TraceKind::publish, "publish"},
                                                {TraceKind::headers, "headers"},
                                                {TraceKind::plan, "plan"},
                                                {TraceKind::gather, "gather"},
                                                {TraceKind::pull, "pull"},
                                                {TraceKind::first_gemm, "first_gemm"},
                                                {TraceKind::second_gemm, "second_gemm"},
                                                {TraceKind::send, "send"},
                                                {TraceKind::push, "push"},
                                                {TraceKind::home_sum, "home_sum"},
                                                {TraceKind::wait, "wait"},
                                                {TraceKind::link_pull, "link_pull"},
                                                {TraceKind::link_push, "link_push"}}};

}  // namespace

std::string_view to_string(TraceKind kind) noexcept { return name_of(kTraceKinds, kind); }

}  // namespace comet
