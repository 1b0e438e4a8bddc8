// SPDX-License-Identifier: Apache-2.0
// What Linux calls this machine's processor.
#pragma once

#include <string>

namespace comet {

/// The model name, or "unknown processor".
std::string processor_name();

}  // namespace comet
