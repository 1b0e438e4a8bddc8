// SPDX-License-Identifier: Apache-2.0
#include "layout/run_config.hpp"

#include <initializer_list>

namespace comet {
namespace {

class Fnv1a {
 public:
  void add(std::int64_t value) noexcept {
    for (int shift = 0; shift < 64; shift += 8) {
      hash_ ^= static_cast<std::uint64_t>(value >> shift) & 0xffU;
      hash_ *= 0x100000001b3U;
    }
  }
  std::uint64_t value() const noexcept { return hash_; }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325U;
};

}  // namespace

std::uint64_t config_hash(const MoeDesc& desc, const ParallelDesc& parallel, const LayerDims& dims,
                          const RunConfig& config, std::int64_t max_rows, std::int64_t layer_id) {
  Fnv1a hash;
  for (const std::int64_t value :
       {desc.num_experts, desc.topk, desc.hidden, desc.intermediate, desc.max_tokens,
        std::int64_t{static_cast<int>(desc.dtype)}, std::int64_t{static_cast<int>(desc.activation)},
        std::int64_t{desc.gated}, std::int64_t{static_cast<int>(desc.weight_position)}, parallel.ep,
        parallel.tp, dims.block_m, dims.block_n, std::int64_t{config.schedule},
        std::int64_t{config.groups}, config.panel, config.chunk, max_rows, layer_id}) {
    hash.add(value);
  }
  for (const std::int32_t owner : desc.expert_owner) hash.add(owner);
  return hash.value();
}

}  // namespace comet
