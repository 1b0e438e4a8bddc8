// SPDX-License-Identifier: Apache-2.0
#include "layer/workspace.hpp"

namespace comet {

void Workspace::reserve(const WorkspaceSizes& sizes) {
  if (buffer_.local != nullptr && sizes_.covers(sizes)) return;
  // Members change only once the memory is there: after a failed allocation the layers that exist
  // go on with the old one.
  WorkspaceSizes grown = sizes_;
  grown.grow_to(sizes);
  const WorkspaceLayout layout = make_workspace_layout(grown);
  // Fresh slots are zero, which no wait for a later epoch mistakes for its own: epochs compare by
  // signed distance and start at 1.
  buffer_ = world_->allocate(static_cast<std::size_t>(layout.bytes));
  sizes_ = grown;
  layout_ = layout;
}

}  // namespace comet
