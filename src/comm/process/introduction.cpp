// SPDX-License-Identifier: Apache-2.0
#include "comm/process/introduction.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "base/check.hpp"
#include "base/env.hpp"

namespace comet {
namespace {

struct Words {
  std::int32_t pid = 0;
  Backend backend = Backend::cpu;
  bool force_puts = false;
  bool refuses = false;
  char sentence[400] = {};  // why it refuses
};

std::vector<Words> exchange(ProcessGroup& group, const Words& own) {
  std::vector<Words> all(static_cast<std::size_t>(group.size()));
  group.all_gather(&own, all.data(), sizeof(own));
  return all;
}

// The lowest rank that refuses, or the size.
std::size_t first_refusing(const std::vector<Words>& all) {
  const auto first =
      std::find_if(all.begin(), all.end(), [](const Words& words) { return words.refuses; });
  return static_cast<std::size_t>(first - all.begin());
}

}  // namespace

std::vector<std::int32_t> introduce(ProcessGroup& group, Backend backend) {
  const std::vector<Words> all = exchange(group, {.pid = static_cast<std::int32_t>(::getpid()),
                                                  .backend = backend,
                                                  .force_puts = env().force_puts});
  if (const std::size_t rank = first_refusing(all); rank < all.size()) {
    throw Error(ErrorCode::peer, all[rank].sentence);
  }
  std::vector<std::int32_t> pids;
  for (const Words& other : all) {
    const std::size_t rank = pids.size();
    check(other.backend == all.front().backend, ErrorCode::mismatch,
          "[world] backends differ between ranks: rank 0 runs on {}, rank {} on {}",
          to_string(all.front().backend), rank, to_string(other.backend));
    check(other.force_puts == all.front().force_puts, ErrorCode::mismatch,
          "[world] COMET_FORCE_PUTS differs between ranks 0 and {}", rank);
    pids.push_back(other.pid);
  }
  return pids;
}

int refuse_world(ProcessGroup& group, const std::string& sentence) {
  Words own{.refuses = true};
  std::memcpy(own.sentence, sentence.data(), std::min(sentence.size(), sizeof(own.sentence) - 1));
  return static_cast<int>(first_refusing(exchange(group, own)));
}

}  // namespace comet
