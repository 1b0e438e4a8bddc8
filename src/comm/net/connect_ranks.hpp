// SPDX-License-Identifier: Apache-2.0
// How the ranks of several hosts find each other.
#pragma once

#include <chrono>
#include <vector>

#include "comm/net/socket.hpp"
#include "comm/process/hosts.hpp"
#include "comm/process/process_group.hpp"

namespace comet {

/// Collective: element r is a connection to rank r, open for all ranks of other hosts. Of two ranks
/// the higher one connects. Each proves with a random token, which the group carries, that it is of
/// this world; what travels is neither encrypted nor signed. Throws Error(unsupported) on all ranks
/// alike, with who cannot reach whom, if it takes longer than `timeout`.
std::vector<Socket> connect_ranks(ProcessGroup& group, const Hosts& hosts,
                                  std::chrono::milliseconds timeout);

}  // namespace comet
