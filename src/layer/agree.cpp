// SPDX-License-Identifier: Apache-2.0
#include "layer/agree.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.hpp"

namespace comet {
namespace {

struct Vote {
  std::uint64_t hash;
  std::int32_t fault;  // 0, or 1 + ErrorCode
  char sentence[500];  // NUL-terminated
};

}  // namespace

void agree(World& world, const std::function<void()>& check_rank, std::uint64_t hash,
           const std::string& what) {
  Vote vote{};
  vote.hash = hash;
  try {
    check_rank();
  } catch (const Error& error) {
    vote.fault = 1 + static_cast<std::int32_t>(error.code());
    const std::string sentence = error.what();
    std::memcpy(vote.sentence, sentence.data(),
                std::min(sentence.size(), sizeof(vote.sentence) - 1));
  }
  std::vector<Vote> votes(world.size());
  world.all_gather(&vote, votes.data(), sizeof(Vote));
  for (const Vote& other : votes) {
    if (other.fault != 0) throw Error(static_cast<ErrorCode>(other.fault - 1), other.sentence);
  }
  for (int rank = 1; rank < world.size(); ++rank) {
    check(votes[rank].hash == votes[0].hash, ErrorCode::mismatch,
          "[{}] ranks 0 and {} ask for different layers or options", what, rank);
  }
}

}  // namespace comet
