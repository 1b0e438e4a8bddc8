// SPDX-License-Identifier: Apache-2.0
// comet run: flags, input and output files of one block of a checkpoint.
#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/check.hpp"
#include "cli/commands.hpp"
#include "cli/exit_code.hpp"
#include "cli/file_flags.hpp"
#include "cli/flags.hpp"
#include "cli/memory_check.hpp"
#include "cli/output.hpp"
#include "cli/run_layer.hpp"
#include "cli/run_report.hpp"
#include "cli/shared_flags.hpp"
#include "comet/version.hpp"
#include "io/checkpoint.hpp"
#include "io/safetensors.hpp"
#include "layer/backends.hpp"

namespace comet::cli {
namespace {

constexpr std::int64_t kMostGroups = 1024;  // that memory is reserved for; a layer refuses more

struct RunFlags {
  std::string checkpoint;
  std::string tokens;
  std::string out;
  std::int64_t layer = 0;
  WorldFlags world;
  DType dtype = DType::f32;
  Backend backend = Backend::cpu;
  LinkSpec link;
  std::optional<Schedule> schedule;  ///< None: the fastest of the backend.
  std::int64_t groups = 1;
  std::int64_t workers = 0;
  std::uint64_t seed = 1;
  bool check = false;
};

int choose_workers(std::int64_t workers, std::int64_t ranks) {
  if (workers > 0) return static_cast<int>(workers);
  return static_cast<int>(std::max<std::int64_t>(1, std::thread::hardware_concurrency() / ranks));
}

void write_y(const RunFlags& flags, const RunSummary& summary, const Tokens& y) {
  const TensorToWrite tensor{.name = "y",
                             .type = stored_type(y.dtype),
                             .shape = {y.rows, y.hidden},
                             .data = y.data.data()};
  const std::map<std::string, std::string> metadata = {
      {"producer", std::string("comet ") + COMET_VERSION_STRING},
      {"model_type", std::string(to_string(summary.block.model_type))},
      {"layer", std::to_string(flags.layer)},
      {"tokens", flags.tokens},
      {"backend", std::string(to_string(summary.backend))},
      {"schedule", std::string(to_string(summary.schedule))},
      {"ep", std::to_string(summary.parallel.ep)},
      {"tp", std::to_string(summary.parallel.tp)}};
  write_safetensors(flags.out, {&tensor, 1}, metadata);
}

// The checkpoint's files may have taken days to make, and are mapped while the call runs.
void check_apart_from_checkpoint(const RunFlags& flags) {
  if (flags.out.empty()) return;
  const std::filesystem::path folder = flags.checkpoint;
  std::vector<std::filesystem::path> files = checkpoint_files(folder);
  files.push_back(folder / "config.json");
  for (const std::filesystem::path& file : files) {
    check_apart({"--out", flags.out}, {"--checkpoint", file.string()});
  }
}

// Before memory is taken for tokens. Of ranks that are processes each host holds a part.
void check_call_fits(const RunFlags& flags, const MoeBlock& block, const ParallelDesc& parallel,
                     const Ranks& ranks) {
  if (ranks.kind() != "local") return;
  const int matrices = flags.check ? 3 : 2;  // tokens, results, and those of the reference
  const double bytes = call_bytes({.desc = block.desc,
                                   .parallel = parallel,
                                   .tokens = count_tokens(flags.tokens),
                                   .backend = flags.backend},
                                  matrices);
  check_fits_memory("tokens, results and workspaces", bytes, "fewer --tokens take less");
}

int run_run(const RunFlags& flags, const Ranks& ranks) {
  ranks.check_fits(flags.backend, flags.link);
  const ParallelDesc parallel = resolve_world(flags.world, ranks);
  check(flags.link.kind == LinkSpec::Kind::native || flags.link.auto_ratio == 0,
        ErrorCode::invalid_argument,
        "[link] {}: one call measures no rate; give it as paced:<GB/s>", to_string(flags.link));
  check(flags.backend == Backend::cpu || !flags.check || flags.dtype != DType::f16,
        ErrorCode::unsupported,
        "[run] --check in f16: the reference runs on cpu, whose layers run in f32 or bf16");
  require_backend(flags.backend);
  check_apart({"--out", flags.out}, {"--tokens", flags.tokens});
  check_apart_from_checkpoint(flags);
  if (!flags.out.empty() && ranks.is_first()) check_writable(flags.out, "run");
  MoeBlock block = load_moe_block(flags.checkpoint, flags.layer, flags.dtype);
  check_call_fits(flags, block, parallel, ranks);
  const Tokens x = load_tokens(flags.tokens, block.desc.hidden, flags.dtype, flags.seed);
  const Schedule schedule = flags.schedule.value_or(tiled_schedules(flags.backend).back());
  LayerOptions layer;
  layer.max_groups = std::clamp<std::int64_t>(flags.groups, layer.max_groups, kMostGroups);
  layer.num_workers = choose_workers(flags.workers, parallel.world_size());
  const LayerResult result = run_layer({.block = block,
                                        .x = x,
                                        .parallel = parallel,
                                        .backend = flags.backend,
                                        .link = flags.link,
                                        .layer = layer,
                                        .forward = {.schedule = schedule, .groups = flags.groups},
                                        .is_checked = flags.check,
                                        .world = ranks.runner()});
  const RunSummary summary{.block = block,
                           .world = std::string(ranks.kind()),
                           .parallel = parallel,
                           .backend = flags.backend,
                           .link = flags.link,
                           .schedule = schedule,
                           .groups = flags.groups,
                           .workers = layer.num_workers,
                           .result = result,
                           .out = flags.out};
  if (!flags.out.empty() && ranks.is_first()) write_y(flags, summary, result.y);
  print(run_text(summary));
  return is_run_good(result) ? kExitOk : kExitCheckFailed;
}

void add_execution(CLI::App& app, RunFlags& flags) {
  const std::string group = "Execution";
  add_parsed(
      app, "--schedule", flags.schedule, parse_schedule, "NAME",
      "Order of the stages: reference, sequential, pipelined or comet; without it the last of "
      "these that the backend has")
      ->group(group);
  add_integer(app, {"--groups", "Groups of tokens (comet) or chunks (pipelined)", 1, 1 << 20},
              flags.groups)
      ->group(group);
  add_integer(app,
              {"--workers", "Threads of each rank on cpu; 0: cores / ranks, at least 1", 0, 1024},
              flags.workers)
      ->group(group);
  app.add_flag(
         "--check", flags.check,
         "Also run the reference schedule, on cpu, and compare: exit code 1 if they differ too "
         "much")
      ->group(group);
}

}  // namespace

void add_run(CLI::App& app, Context& context) {
  const auto flags = std::make_shared<RunFlags>();
  CLI::App* command = app.add_subcommand("run", "Run one MoE layer of a Hugging Face checkpoint");
  add_folder(*command, "--checkpoint", flags->checkpoint,
             "Directory with config.json and safetensors: Mixtral, Qwen2-MoE, Qwen3-MoE or "
             "Phi-3.5-MoE")
      ->required();
  add_integer(*command, {"--layer", "Decoder layer, counted from 0", 0, 1'000'000}, flags->layer);
  command
      ->add_option("--tokens", flags->tokens,
                   "A safetensors file with x [T, H], or random:<T>; split evenly over ranks")
      ->type_name("SOURCE")
      ->required();
  add_unsigned(*command, "--seed", flags->seed, "Of random tokens");
  add_file(*command, "--out", flags->out, "Write y [T, H] to this safetensors file");
  add_dtype(*command, flags->dtype);
  add_world(*command, flags->world);
  add_backend(*command, flags->backend);
  add_link(*command, flags->link);
  add_execution(*command, *flags);
  command->footer(examples(
      "  comet run --checkpoint Mixtral-8x7B --layer 3 --tokens random:256 --world local:4 "
      "--dtype bf16\n"
      "  comet run --checkpoint DIR --tokens x.safetensors --ep 2 --tp 2 --out "
      "y.safetensors --check\n"
      "  comet run --checkpoint DIR --tokens random:512 --ep 4 --link paced:2 --groups 2\n"));
  command->callback([flags, &context] {
    context.world = &flags->world.world;
    context.ranks_backend = &flags->backend;
    context.command = [flags](Ranks& ranks) { return run_run(*flags, ranks); };
  });
}

}  // namespace comet::cli
