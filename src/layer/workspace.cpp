// SPDX-License-Identifier: Apache-2.0
#include "layer/workspace.hpp"

namespace comet {

void Workspace::reserve(const WorkspaceSizes& sizes) {
  if (buffer_.local != nullptr && sizes_.covers(sizes)) return;
  sizes_.grow_to(sizes);
  layout_ = make_workspace_layout(sizes_);
  // Fresh slots are zero, which no wait for a later epoch mistakes for its own: epochs compare by
  // signed distance and start at 1.
  buffer_ = world_->allocate(static_cast<std::size_t>(layout_.bytes));
}

}  // namespace comet
