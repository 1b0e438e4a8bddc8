// SPDX-License-Identifier: Apache-2.0
#include "local_world.hpp"

namespace comet::python {

LocalWorld::LocalWorld(int ranks, const std::string& link, std::chrono::milliseconds timeout)
    : worlds_(make_local_world(ranks, {.link = parse_link(link), .timeout = timeout})),
      threads_(ranks) {}

}  // namespace comet::python
