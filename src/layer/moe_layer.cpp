// SPDX-License-Identifier: Apache-2.0
// MoeLayer::create: what all ranks must agree on, and which class runs the layer.
#include "base/check.hpp"
#include "comet/layer.hpp"
#include "layer/agree.hpp"
#include "layer/backends.hpp"
#include "layer/call_options.hpp"
#include "layer/layer_parts.hpp"
#include "layer/workspace.hpp"
#include "layout/run_config.hpp"

namespace comet {
namespace {

void check_tile(const char* name, std::int64_t value, std::int64_t most) {
  check(value >= 8 && value <= most && value % 8 == 0, ErrorCode::invalid_argument,
        "[layer] {}: {}, allowed are multiples of 8 up to {}, or 0 to choose", name, value, most);
}

void check_matrices(const char* name, const ExpertMatrices& matrices, std::int64_t columns,
                    std::int64_t num_local) {
  check(!matrices.empty() && matrices.row_stride >= columns, ErrorCode::invalid_argument,
        "[layer] weights.{}: null or row stride {} below its {} columns", name, matrices.row_stride,
        columns);
  for (std::int64_t e = 0; matrices.list != nullptr && e < num_local; ++e) {
    check(matrices.list[e] != nullptr, ErrorCode::invalid_argument,
          "[layer] weights.{}: expert {} of the list is null", name, e);
  }
}

void check_layer(const MoeDesc& desc, const LayerDims& dims, const MoeWeights& weights,
                 const LayerOptions& options, World& world) {
  if (world.backend() == Backend::cuda) {
    check(desc.dtype != DType::f32, ErrorCode::unsupported,
          "[layer] dtype {}: layers on cuda run in bf16 or f16", to_string(desc.dtype));
  } else {  // the GEMM library has no products of half numbers
    check(desc.dtype != DType::f16, ErrorCode::unsupported,
          "[layer] dtype {}: layers on cpu run in f32 or bf16", to_string(desc.dtype));
  }
  check_tile("block_m", dims.block_m, 1024);
  check_tile("block_n", dims.block_n, 65536);
  check(options.num_workers >= 1 && options.num_workers <= kMaxWorkers, ErrorCode::invalid_argument,
        "[layer] num_workers: {}, allowed 1 to {}", options.num_workers, kMaxWorkers);
  check(options.max_groups >= 1 && options.max_groups <= kMaxGroups, ErrorCode::invalid_argument,
        "[layer] max_groups: {}, allowed 1 to {}", options.max_groups, kMaxGroups);
  check(options.max_rows >= 0, ErrorCode::invalid_argument, "[layer] max_rows: {}, at least 0",
        options.max_rows);
  check(options.workspace == nullptr || &options.workspace->world() == &world,
        ErrorCode::invalid_argument, "[layer] the workspace belongs to another world or rank");
  if (dims.num_local == 0) return;  // this rank has no weights
  if (desc.gated) check_matrices("gate", weights.gate, dims.hidden, dims.num_local);
  check_matrices("up", weights.up, dims.hidden, dims.num_local);
  check_matrices("down", weights.down, dims.inter_local, dims.num_local);
}

}  // namespace

std::unique_ptr<MoeLayer> MoeLayer::create(const MoeDesc& desc, const ParallelDesc& parallel,
                                           const MoeWeights& weights, World& world,
                                           const LayerOptions& options) {
  LayerDims dims;
  agree(
      world,
      [&] {
        validate(desc, parallel);
        comet::check(parallel.world_size() == world.size(), ErrorCode::invalid_argument,
                     "[layer] ep x tp = {} x {} is not the world's {} ranks", parallel.ep,
                     parallel.tp, world.size());
        dims = make_layer_dims(desc, parallel, world.rank());
        dims.block_m = options.block_m;
        dims.block_n = options.block_n;
        choose_layer_tile(world.backend(), dims);
        check_layer(desc, dims, weights, options, world);
      },
      config_hash(desc, parallel, {.block_m = options.block_m, .block_n = options.block_n},
                  {.groups = static_cast<std::int32_t>(options.max_groups)}, options.max_rows,
                  options.workspace != nullptr ? 1 : 0),
      "layer");
  std::shared_ptr<Workspace> workspace = options.workspace;
  if (workspace == nullptr) workspace = std::make_shared<Workspace>(world);
  workspace->reserve(workspace_sizes(dims));
  const LayerParts parts{.desc = desc,
                         .parallel = parallel,
                         .dims = dims,
                         .weights = weights,
                         .world = &world,
                         .options = options,
                         .workspace = std::move(workspace),
                         .auto_options = AutoOptions(desc, parallel, options, world)};
  return world.backend() == Backend::cuda ? make_cuda_layer(parts) : make_cpu_layer(parts);
}

}  // namespace comet
