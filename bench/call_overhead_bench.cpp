// SPDX-License-Identifier: Apache-2.0
// Claim: a call of a layer of one token per rank on 4 in-process ranks takes under 100 us (median).
// What is left when there is nothing to compute: publish, the rendezvous, the plan, one push and
// one signal per rank, and the wake-ups of 4 threads on the cores at hand.
//   call_overhead_bench            prints the median and the quartiles
//   call_overhead_bench --check    also exits 1 if the median is over the claim
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <vector>

#include "comet/layer.hpp"

namespace {

constexpr double kClaimUs = 100;
constexpr int kRanks = 4;
constexpr int kWarmup = 200;
constexpr int kCalls = 4000;
constexpr std::int64_t kHidden = 64;

// Microseconds of each call, the slowest rank's.
std::vector<double> measure() {
  const comet::MoeDesc desc{
      .num_experts = 8, .topk = 2, .hidden = kHidden, .intermediate = 64, .max_tokens = 1};
  std::vector<std::vector<double>> times(kRanks, std::vector<double>(kCalls));
  comet::run_local_world(kRanks, {}, [&](comet::World& world) {
    const std::vector<float> w13(2 * 2 * 64 * kHidden, 0.01F);
    const std::vector<float> w2(2 * kHidden * 64, 0.01F);
    const auto layer = comet::MoeLayer::create(
        desc, {.ep = kRanks},
        comet::fused_weights(w13.data(), w2.data(), comet::GateLayout::gate_up, 64, kHidden),
        world);
    const std::vector<float> x(kHidden, 1.0F);
    std::vector<float> y(kHidden);
    // Each token goes to its own rank's first expert and the next rank's.
    const std::int32_t ids[] = {2 * world.rank(), (2 * world.rank() + 3) % 8};
    const float weights[] = {0.6F, 0.4F};
    for (int call = -kWarmup; call < kCalls; ++call) {
      const auto start = std::chrono::steady_clock::now();
      layer->forward({x.data(), 1, kHidden, kHidden, comet::DType::f32},
                     {.ids = ids, .weights = weights, .tokens = 1},
                     {y.data(), 1, kHidden, kHidden, comet::DType::f32});
      const std::chrono::duration<double, std::micro> took =
          std::chrono::steady_clock::now() - start;
      if (call >= 0) times[world.rank()][call] = took.count();
    }
  });
  std::vector<double> slowest(kCalls, 0.0);
  for (const auto& rank : times) {
    for (int call = 0; call < kCalls; ++call) slowest[call] = std::max(slowest[call], rank[call]);
  }
  return slowest;
}

}  // namespace

int main(int argc, char** argv) {
  const bool check = argc > 1 && std::strcmp(argv[1], "--check") == 0;
  std::vector<double> times = measure();
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2];
  std::printf("1 token per rank, %d ranks: median %.1f us, quartiles %.1f and %.1f, of %d calls\n",
              kRanks, median, times[times.size() / 4], times[times.size() * 3 / 4], kCalls);
  if (check && median > kClaimUs) {
    std::printf("over the claim of %.0f us\n", kClaimUs);
    return 1;
  }
  return 0;
}
