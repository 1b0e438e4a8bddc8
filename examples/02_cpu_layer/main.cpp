// SPDX-License-Identifier: Apache-2.0
// One Mixture-of-Experts layer on two ranks that are threads of this process: each rank holds half
// of the experts, routes its own tokens, and gets its own tokens' outputs back.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include "comet/error.hpp"
#include "comet/layer.hpp"
#include "comet/router.hpp"

namespace {

constexpr std::int64_t kTokens = 256;  // of each rank

std::vector<float> random_matrix(std::int64_t size, float scale, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::vector<float> values(static_cast<std::size_t>(size));
  for (float& value : values) {
    value = scale * (static_cast<float>(engine() >> 40) * 0x1p-23F - 1.0F);  // [-scale, scale)
  }
  return values;
}

double checksum(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += std::abs(static_cast<double>(value));
  return sum;
}

void run_rank(comet::World& world) {
  // Mixtral's shape in small: 8 experts, the best 2 of them for each token, SwiGLU.
  const comet::MoeDesc desc{
      .num_experts = 8, .topk = 2, .hidden = 128, .intermediate = 256, .max_tokens = kTokens};
  const comet::ParallelDesc parallel{.ep = world.size(), .tp = 1};
  const auto seed = static_cast<std::uint64_t>(world.rank());

  // This rank's experts, as Hugging Face lays them out: w13 [experts, 2*I, H], w2 [experts, H, I].
  const auto num_local =
      static_cast<std::int64_t>(comet::local_experts(desc, parallel, world.rank()).size());
  const std::int64_t expert_size = desc.intermediate * desc.hidden;
  const auto w13 = random_matrix(num_local * 2 * expert_size, 0.1F, 100 + seed);
  const auto w2 = random_matrix(num_local * expert_size, 0.1F, 200 + seed);
  const comet::MoeWeights weights = comet::fused_weights(
      w13.data(), w2.data(), comet::GateLayout::gate_up, desc.intermediate, desc.hidden);
  const auto layer = comet::MoeLayer::create(desc, parallel, weights, world);

  // What the model around the layer would give: tokens, and the router's choices for them.
  const auto x = random_matrix(kTokens * desc.hidden, 1.0F, 300 + seed);
  const auto logits = random_matrix(kTokens * desc.num_experts, 4.0F, 400 + seed);
  const comet::Routing routing =
      comet::route({.num_experts = desc.num_experts, .topk = desc.topk}, logits.data(), kTokens);
  const comet::RoutingView choices{routing.ids.data(), routing.weights.data(), kTokens};

  std::vector<float> y(x.size());
  const auto forward = [&] {
    layer->forward({x.data(), kTokens, desc.hidden, desc.hidden}, choices,
                   {y.data(), kTokens, desc.hidden, desc.hidden});
    return checksum(y);
  };
  const double sum = forward();
  std::printf("rank %d of %d: %d tokens, checksum %.6f\n", world.rank(), world.size(),
              static_cast<int>(kTokens), sum);
  // Sums are taken in a fixed order, so a second call gives the same bits.
  if (!(sum > 0) || forward() != sum) {
    throw comet::Error(comet::ErrorCode::internal, "[example] two calls differ, or gave nothing");
  }
}

}  // namespace

int main() {
  try {
    comet::run_local_world(2, {}, run_rank);
  } catch (const comet::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
