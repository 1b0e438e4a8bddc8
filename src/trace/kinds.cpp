// SPDX-License-Identifier: Apache-2.0
#include "trace/kinds.hpp"

#include "base/name_table.hpp"

namespace comet {
namespace {

constexpr NameTable<TraceClass, kNumTraceClasses> kClasses{{{TraceClass::compute, "compute"},
                                                            {TraceClass::copy, "copy"},
                                                            {TraceClass::plan, "plan"},
                                                            {TraceClass::wait, "wait"},
                                                            {TraceClass::link, "link"}}};

// Computation is cold, communication warm, the rest grey; a transfer has a lighter tone of the
// colour of the work that belongs to it.
constexpr std::array<KindStyle, kNumTraceKinds> kStyles{{
    {TraceKind::first_gemm, TraceClass::compute, "first GEMM with activation", "#3a6ea8",
     "thread_state_runnable"},
    {TraceKind::second_gemm, TraceClass::compute, "second GEMM", "#2a9d8f", "thread_state_running"},
    {TraceKind::gather, TraceClass::copy, "gather own tokens", "#f2c14e", "yellow"},
    {TraceKind::pull, TraceClass::copy, "spread pulled tokens", "#ee8434", "rail_animation"},
    {TraceKind::send, TraceClass::copy, "send tokens to other hosts", "#c77d3b", "rail_load"},
    {TraceKind::push, TraceClass::copy, "sum and push partials", "#d1495b", "rail_response"},
    {TraceKind::home_sum, TraceClass::copy, "sum at home rank", "#8d6cab", "rail_idle"},
    {TraceKind::link_pull, TraceClass::link, "link busy: dispatch", "#f7b37f", "rail_load"},
    {TraceKind::link_push, TraceClass::link, "link busy: combine", "#e7929d", "bad"},
    {TraceKind::publish, TraceClass::plan, "publish tokens and ids", "#a59a8d", "olive"},
    {TraceKind::headers, TraceClass::plan, "wait for metadata", "#c9c1b6", "startup"},
    {TraceKind::plan, TraceClass::plan, "plan", "#6f655a", "generic_work"},
    {TraceKind::wait, TraceClass::wait, "wait", "#dfe3e8", "grey"},
}};

}  // namespace

std::string_view to_string(TraceClass value) noexcept { return name_of(kClasses, value); }

const std::array<KindStyle, kNumTraceKinds>& kind_styles() noexcept { return kStyles; }

const KindStyle& style_of(TraceKind kind) noexcept {
  for (const KindStyle& style : kStyles) {
    if (style.kind == kind) return style;
  }
  return kStyles.back();
}

}  // namespace comet
