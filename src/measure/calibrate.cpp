// SPDX-License-Identifier: Apache-2.0
#include "measure/calibrate.hpp"

#include <vector>

#include "base/check.hpp"

namespace comet {

LinkBytes gather_link_bytes(World& world, const CallStats& mine) {
  std::vector<CallStats> all(world.size());
  world.all_gather(&mine, all.data(), sizeof(CallStats));
  return link_bytes(all);
}

double measure_compute(MoeLayer& layer, int repeats) {
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) times.push_back(layer.replay_compute());
  return median(times);
}

LinkSpec calibrate_link(World& world, const LinkBytes& bytes, double t_compute_us, double ratio) {
  const double rate = auto_rate(bytes, t_compute_us, ratio);
  check(rate > 0, ErrorCode::invalid_argument,
        "[bench] link paced:auto:{}: no bytes cross a link in this case, so no rate fits", ratio);
  const LinkSpec link{
      .kind = LinkSpec::Kind::paced, .gigabytes_per_second = rate, .auto_ratio = ratio};
  world.set_link(link);
  return link;
}

}  // namespace comet
