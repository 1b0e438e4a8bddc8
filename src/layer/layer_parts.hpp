// SPDX-License-Identifier: Apache-2.0
// LayerParts: what MoeLayer::create has checked and worked out, for the class of each backend.
#pragma once

#include <memory>

#include "comet/layer.hpp"
#include "layer/auto_options.hpp"
#include "layer/workspace.hpp"
#include "layout/layer_dims.hpp"

namespace comet {

struct LayerParts {
  MoeDesc desc;
  ParallelDesc parallel;
  LayerDims dims;
  MoeWeights weights;
  World* world = nullptr;
  LayerOptions options;
  std::shared_ptr<Workspace> workspace;  ///< Reserved for the layer.
  AutoOptions auto_options;
};

std::unique_ptr<MoeLayer> make_cpu_layer(const LayerParts& parts);
/// Throws what cuda::make_layer_engine does.
std::unique_ptr<MoeLayer> make_cuda_layer(const LayerParts& parts);

}  // namespace comet
