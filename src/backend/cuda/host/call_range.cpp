// SPDX-License-Identifier: Apache-2.0
#include "backend/cuda/host/call_range.hpp"

#include <fmt/format.h>
#include <nvtx3/nvToolsExt.h>

#include <string>

#include "base/count_text.hpp"

namespace comet::cuda {
namespace {

// Null where no profiler listens, so that no text is made for nobody.
nvtxDomainHandle_t domain() {
  static const nvtxDomainHandle_t handle = nvtxDomainCreateA("comet");
  return handle;
}

std::string call_text(const QueuedCall& call) {
  const RunConfig& config = call.config;
  std::string text = fmt::format("{}: panel {}", to_string(call.schedule), config.panel);
  if (call.schedule == Schedule::pipelined) {
    text += fmt::format(", chunks {}, n_c {}", config.groups, call.reserved);
  }
  if (call.schedule == Schedule::comet) {
    text += fmt::format(", groups {}, n_c {}/{} {}", config.groups, call.n_c_dispatch,
                        call.n_c_combine, to_string(call.placement));
    if (call.waves > 0) text += fmt::format(", {}", count_text(call.waves, "wave"));
  }
  return text;
}

}  // namespace

CallRange::CallRange(const QueuedCall& call) {
  if (domain() == nullptr) return;
  const std::string text = call_text(call);
  nvtxEventAttributes_t attributes = {};
  attributes.version = NVTX_VERSION;
  attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  attributes.messageType = NVTX_MESSAGE_TYPE_ASCII;
  attributes.message.ascii = text.c_str();
  nvtxDomainRangePushEx(domain(), &attributes);
}

CallRange::~CallRange() {
  if (domain() != nullptr) nvtxDomainRangePop(domain());
}

}  // namespace comet::cuda
