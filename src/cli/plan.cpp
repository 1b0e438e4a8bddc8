// SPDX-License-Identifier: Apache-2.0
// comet plan: flags, and the plan of a made-up routing as text or JSON.
#include "comet/plan.hpp"

#include <memory>
#include <string>

#include "cli/commands.hpp"
#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/output.hpp"
#include "cli/plan_predict.hpp"
#include "cli/plan_report.hpp"
#include "cli/shared_flags.hpp"
#include "cli/split.hpp"

namespace comet::cli {
namespace {

struct PlanFlags {
  ShapeFlags shape;
  WorldFlags world;
  std::string routing = "uniform";
  std::int64_t tokens = 4096;
  std::uint64_t seed = 1;
  std::int64_t groups = 1;
  std::int64_t block_m = 0;
  std::int64_t rank = -1;
  bool is_ungated = false;
  PredictFlags predict;
  bool json = false;
};

// Borrowed from `routing`: each rank's share of all tokens, in order.
std::vector<RoutingView> split_routing(const Routing& routing, std::int64_t ranks) {
  std::vector<RoutingView> views;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const TokenShare share = token_share(routing.tokens, ranks, rank);
    const std::int64_t first = share.begin * routing.topk;
    views.push_back({.ids = routing.ids.data() + first,
                     .weights = routing.weights.data() + first,
                     .tokens = share.count});
  }
  return views;
}

int run_plan(const PlanFlags& flags, const Ranks& ranks) {
  PlanQuery query;
  query.desc = resolve_shape(flags.shape);
  if (flags.is_ungated) query.desc.gated = false;
  query.parallel = resolve_world(flags.world, ranks);
  query.groups = flags.groups;
  query.block_m = flags.block_m;
  const std::int64_t num_ranks = query.parallel.world_size();
  check_plan_rank(flags.rank, num_ranks);
  validate(query.desc, query.parallel);
  const Routing routing =
      make_routing(parse_synthetic_routing(flags.routing), query.desc.num_experts, query.desc.topk,
                   flags.tokens, flags.seed);
  query.routing = split_routing(routing, num_ranks);
  PlanReport report{.query = query,
                    .summary = summarize_plan(query),
                    .model = flags.shape.model,
                    .routing = flags.routing,
                    .tokens = flags.tokens,
                    .seed = flags.seed,
                    .rank = flags.rank};
  if (flags.predict.wanted) {
    report.prediction = predict_plan(flags.predict, query, report.summary, flags.tokens);
  }
  print(flags.json ? plan_json(report) : plan_text(report));
  return kExitOk;
}

}  // namespace

void add_plan(CLI::App& app, Context& context) {
  const auto flags = std::make_shared<PlanFlags>();
  CLI::App* command =
      app.add_subcommand("plan", "Show who would compute and send what, without running anything");
  add_shape(*command, flags->shape);
  add_ungated(*command, flags->is_ungated);
  add_world(*command, flags->world);
  add_integer(*command, {"--tokens", "Tokens of all ranks together, split evenly", 0, 1 << 24},
              flags->tokens);
  command
      ->add_option("--routing", flags->routing,
                   "Who goes where: uniform, std:<deviation of the experts' shares>, "
                   "zipf:<exponent>, hot (everyone takes expert 0) or empty (half of the experts "
                   "get nothing)")
      ->type_name("KIND")
      ->capture_default_str();
  add_unsigned(*command, "--seed", flags->seed, "Of the routing");
  add_integer(*command, {"--groups", "Groups G that each rank's tokens are cut into", 1, 1 << 20},
              flags->groups);
  add_integer(*command, {"--block-m", "Rows of a tile; 0 chooses", 0, 1 << 20}, flags->block_m);
  add_integer(*command, {"--rank", "Show one rank in detail, tile by tile", 0, 1023}, flags->rank,
              false);
  add_predict_flags(*command, flags->predict);
  command->add_flag("--json", flags->json, "One JSON object instead of text");
  command->footer(
      examples("  comet plan --model mixtral --ep 8 --tokens 8192\n"
               "  comet plan --model qwen3-moe --ep 4 --tp 2 --routing zipf:1 --json\n"
               "  comet plan --model mixtral --ep 8 --tokens 32768 --predict --machine h800\n"
               "  comet plan --experts 8 --topk 2 --hidden 64 --intermediate 128 --ep 2 "
               "--tokens 300 --rank 1\n"));
  command->callback([flags, command, &context] {
    for (const char* name :
         {"--machine", "--profile", "--link", "--ranks-per-device", "--workers"}) {
      flags->predict.wanted |= command->count(name) > 0;
    }
    context.world = &flags->world.world;
    context.command = [flags](Ranks& ranks) { return run_plan(*flags, ranks); };
  });
}

}  // namespace comet::cli
