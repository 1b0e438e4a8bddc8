// SPDX-License-Identifier: Apache-2.0
// Workspace: the one symmetric allocation that all layers of a rank share.
#pragma once

#include <cstdint>

#include "comet/world.hpp"
#include "layout/workspace_layout.hpp"

namespace comet {

/// One per rank; used by the rank's thread only.
class Workspace {
 public:
  explicit Workspace(World& world) : world_(&world) {}

  /// Collective: makes room for a layer of these sizes, by a new allocation if the present one is
  /// too small. No call may be running.
  void reserve(const WorkspaceSizes& sizes);

  World& world() const noexcept { return *world_; }
  const WorkspaceLayout& layout() const noexcept { return layout_; }
  std::byte* const* peers() const noexcept { return buffer_.peers.data(); }
  std::byte* local() const noexcept { return buffer_.local; }

  /// The same on all ranks: layers are created collectively.
  std::int64_t next_layer_id() noexcept { return num_layers_++; }

 private:
  World* world_;
  WorkspaceSizes sizes_;
  WorkspaceLayout layout_{};
  SymmetricBuffer buffer_;
  std::int64_t num_layers_ = 0;
};

}  // namespace comet
