// SPDX-License-Identifier: Apache-2.0
// What a call's options mean for a layer, on any backend.
#pragma once

#include <optional>

#include "comet/layer.hpp"
#include "layer/publish.hpp"
#include "layout/layer_dims.hpp"
#include "layout/run_config.hpp"

namespace comet {

/// The choices that index shared memory, with what was left to choose. The options are in range.
RunConfig make_run_config(const LayerDims& dims, const ForwardOptions& options);

/// The first option outside of its range, if any.
std::optional<InputFault> find_option_fault(const LayerDims& dims, const ForwardOptions& options);

}  // namespace comet
