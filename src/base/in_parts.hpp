// SPDX-License-Identifier: Apache-2.0
// Work that several threads share by equal parts of a range.
#pragma once

#include <cstdint>
#include <functional>

namespace comet {

/// Calls work(begin, end) for `threads` parts of [0, count), each on a thread of its own but for
/// the first, which the caller has; returns when all are done. `work` must not throw. Fewer than
/// one thread are one.
void in_parts(std::int64_t count, std::int64_t threads,
              const std::function<void(std::int64_t begin, std::int64_t end)>& work);

}  // namespace comet
