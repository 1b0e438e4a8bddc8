// SPDX-License-Identifier: Apache-2.0
#include "measure/round_plan.hpp"

#include <set>
#include <utility>

namespace comet {

std::vector<RoundCall> plan_rounds(std::size_t contenders, std::size_t rounds, std::size_t copies) {
  std::vector<RoundCall> planned;
  for (std::size_t round = 0; round < rounds; ++round) {
    for (std::size_t place = 0; place < contenders; ++place) {
      planned.push_back(
          {.contender = (place + round) % contenders, .copy = planned.size() % copies});
    }
  }
  return planned;
}

std::vector<RoundCall> first_calls(const std::vector<RoundCall>& planned) {
  std::vector<RoundCall> firsts;
  std::set<std::pair<std::size_t, std::size_t>> known;
  for (const RoundCall& call : planned) {
    if (known.emplace(call.contender, call.copy).second) firsts.push_back(call);
  }
  return firsts;
}

}  // namespace comet
