// SPDX-License-Identifier: Apache-2.0
// What `comet info` says of a layer's memory: the workspace of a rank, known before it is made.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "comet/desc.hpp"
#include "comet/world.hpp"
#include "layout/workspace_layout.hpp"

namespace comet::cli {

/// The question: a layer, its split, and how many tokens all ranks together bring to a call.
struct WorkspaceQuery {
  MoeDesc desc;  ///< max_tokens is not used.
  ParallelDesc parallel;
  std::int64_t tokens = 0;
  Backend backend = Backend::cpu;
};

/// Sizes in bytes of one rank's workspace, which all layers of the rank share.
struct WorkspaceReport {
  WorkspaceQuery query;
  std::int64_t max_tokens = 0;  ///< Of one rank.
  std::int64_t token_bytes = 0;
  std::int64_t partial_bytes = 0;
  std::int64_t routing_bytes = 0;
  std::int64_t signal_bytes = 0;
  std::int64_t bytes = 0;  ///< In all, as MoeLayer::workspace_bytes says; with headers and padding.
};

/// Throws Error(invalid_argument or unsupported) on what MoeLayer::create would refuse, and where
/// the backend, which chooses the tile, is not built.
WorkspaceReport describe_workspace(const WorkspaceQuery& query);

std::string workspace_text(const WorkspaceReport& report);
nlohmann::ordered_json workspace_json(const WorkspaceReport& report);

}  // namespace comet::cli
