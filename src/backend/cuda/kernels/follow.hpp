// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace comet::cuda {

/// What a kernel waits for, see launch.cuh.
enum class Follow : bool {
  after_all,  ///< All that its stream has been ordered after, on this stream or another.
  closely,    ///< The kernel before it on its stream, and nothing else.
};

}  // namespace comet::cuda
