// SPDX-License-Identifier: Apache-2.0
#include "comet/desc.hpp"

#include <algorithm>
#include <numeric>

#include "base/check.hpp"
#include "base/checked_math.hpp"
#include "base/int_math.hpp"

namespace comet {
namespace {

constexpr std::int64_t kMaxExperts = 65534;  // 0xffff marks a dropped choice, 0xfffe a bad id
constexpr std::int64_t kMaxTopk = 32;
constexpr std::int64_t kMaxRanks = 4096;

}  // namespace

void validate(const MoeDesc& desc, const ParallelDesc& parallel) {
  using enum ErrorCode;
  check(parallel.ep >= 1 && parallel.tp >= 1 && parallel.ep <= kMaxRanks &&
            parallel.tp <= kMaxRanks && parallel.world_size() <= kMaxRanks,
        invalid_argument, "[parallel] ep x tp: {} x {}, each at least 1, at most {} ranks",
        parallel.ep, parallel.tp, kMaxRanks);
  check(desc.num_experts >= 1 && desc.num_experts <= kMaxExperts, invalid_argument,
        "[desc] num_experts: {}, allowed 1 to {}", desc.num_experts, kMaxExperts);
  check(desc.topk >= 1 && desc.topk <= kMaxTopk, invalid_argument,
        "[desc] topk: {}, allowed 1 to {}", desc.topk, kMaxTopk);
  check(desc.hidden >= 8 && desc.hidden % 8 == 0, invalid_argument,
        "[desc] hidden: {}, allowed are positive multiples of 8", desc.hidden);
  check(desc.intermediate >= 8 && desc.intermediate % (8 * parallel.tp) == 0, invalid_argument,
        "[desc] intermediate: {}, allowed are positive multiples of 8 x tp = {}", desc.intermediate,
        8 * parallel.tp);
  check(desc.max_tokens >= 0, invalid_argument, "[desc] max_tokens: {}, at least 0",
        desc.max_tokens);
  if (!desc.expert_owner.empty()) {
    const auto entries = static_cast<std::int64_t>(desc.expert_owner.size());
    check(entries == desc.num_experts, invalid_argument,
          "[desc] expert_owner has {} entries, needs one per expert: {}", entries,
          desc.num_experts);
    for (std::int64_t e = 0; e < entries; ++e) {
      const std::int64_t owner = desc.expert_owner[e];
      check(owner >= 0 && owner < parallel.ep, out_of_range,
            "[desc] expert_owner[{}] = {}, allowed 0 to {}", e, owner, parallel.ep - 1);
    }
  }
  // The largest sizes that anything computes; 8 bytes cover every element type and index.
  const std::int64_t world = parallel.world_size();
  checked_product("the combine buffer", {world, desc.max_tokens, desc.hidden, 8});
  checked_product("the row buffers",
                  {world, desc.max_tokens, desc.topk, std::max(desc.hidden, desc.intermediate), 8});
  checked_product("the weights", {desc.num_experts, 2, desc.intermediate, desc.hidden, 8});
}

std::vector<std::int32_t> expert_owners(const MoeDesc& desc, const ParallelDesc& parallel) {
  if (!desc.expert_owner.empty()) return desc.expert_owner;
  std::vector<std::int32_t> owners(desc.num_experts);
  const std::int64_t base = desc.num_experts / parallel.ep;
  const std::int64_t extra = desc.num_experts % parallel.ep;
  std::int64_t expert = 0;
  for (std::int64_t rank = 0; rank < parallel.ep; ++rank) {
    const std::int64_t count = base + (rank < extra ? 1 : 0);
    std::fill_n(owners.begin() + expert, count, static_cast<std::int32_t>(rank));
    expert += count;
  }
  return owners;
}

std::vector<std::int32_t> local_experts(const MoeDesc& desc, const ParallelDesc& parallel,
                                        std::int64_t ep_rank) {
  const std::vector<std::int32_t> owners = expert_owners(desc, parallel);
  std::vector<std::int32_t> local;
  for (std::int64_t e = 0; e < desc.num_experts; ++e) {
    if (owners[e] == ep_rank) local.push_back(static_cast<std::int32_t>(e));
  }
  return local;
}

}  // namespace comet
