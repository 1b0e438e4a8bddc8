// SPDX-License-Identifier: Apache-2.0
// comet info: this build, this machine, the environment, the models that are known by name, and the
// workspace that a layer would need.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/check.hpp"
#include "base/env.hpp"
#include "cli/commands.hpp"
#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/machine.hpp"
#include "cli/output.hpp"
#include "cli/shared_flags.hpp"
#include "cli/tuning_report.hpp"
#include "cli/workspace_report.hpp"
#include "comet/version.hpp"
#include "comm/link_spec.hpp"
#include "layer/backends.hpp"
#include "models/presets.hpp"

namespace comet::cli {
namespace {

struct InfoFlags {
  ShapeFlags shape;
  WorldFlags world;
  Backend backend = Backend::cpu;
  std::int64_t tokens = 0;
  LinkSpec link;
  bool has_layer = false;  ///< A flag says something about a layer.
  bool json = false;
};

constexpr const char* kLayerFlags[] = {"--model",        "--experts", "--topk",  "--hidden",
                                       "--intermediate", "--tokens",  "--world", "--ep",
                                       "--tp",           "--link"};

double gibibytes(std::int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

std::string parts_text(const char* title, const std::vector<BuildPart>& parts) {
  std::string text = fmt::format("\n{}\n", title);
  for (const BuildPart& part : parts) {
    text += fmt::format("  {:<10} {:<10} {}\n", part.name, part.is_built ? "built" : "not built",
                        part.detail);
  }
  return text;
}

std::string models_text() {
  std::string text =
      fmt::format("\nmodels for --model\n  {:<18} {:>7} {:>5} {:>7} {:>13} {:>7}  {}\n", "name",
                  "experts", "top k", "hidden", "intermediate", "layers", "also called");
  for (const ModelPreset& preset : model_presets()) {
    text += fmt::format("  {:<18} {:>7} {:>5} {:>7} {:>13} {:>7}  {}\n", preset.name,
                        preset.num_experts, preset.topk, preset.hidden, preset.intermediate,
                        preset.layers, fmt::join(preset.aliases, ", "));
  }
  return text;
}

std::string info_text(const TuningReport& tuning, const std::optional<WorkspaceReport>& workspace) {
  const Machine machine = describe_machine();
  std::string text = fmt::format("comet {}\n\nmachine\n", COMET_VERSION_STRING);
  text += fmt::format("  {:<10} {}\n", "processor",
                      machine.processor.empty() ? "unknown" : machine.processor);
  text += fmt::format("  {:<10} {}\n", "features", fmt::join(machine.features, " "));
  text += fmt::format("  {:<10} {}\n", "cores", machine.cores);
  text += fmt::format("  {:<10} {:.1f} GiB, {:.1f} GiB available\n", "memory",
                      gibibytes(machine.memory_bytes), gibibytes(machine.available_bytes));
  text += parts_text("backends", describe_backends());
  text += parts_text("worlds", describe_worlds());
  text += "\nenvironment\n";
  for (const EnvLine& line : describe_env()) {
    text += fmt::format("  {}={}  {}\n", line.name, line.value, line.meaning);
  }
  text += tuning_text(tuning);
  text += models_text();
  if (workspace) text += workspace_text(*workspace);
  return text;
}

nlohmann::ordered_json parts_json(const std::vector<BuildPart>& parts) {
  auto json = nlohmann::ordered_json::array();
  for (const BuildPart& part : parts) {
    json.push_back({{"name", part.name}, {"built", part.is_built}, {"detail", part.detail}});
  }
  return json;
}

nlohmann::ordered_json gpus_json() {
  auto json = nlohmann::ordered_json::array();
  for (const GpuPart& gpu : describe_gpus()) {
    json.push_back({{"name", gpu.name},
                    {"multiprocessors", gpu.multiprocessors},
                    {"memory_bytes", gpu.memory_bytes},
                    {"usable", gpu.is_usable}});
  }
  return json;
}

std::string info_json(const TuningReport& tuning, const std::optional<WorkspaceReport>& workspace) {
  const Machine machine = describe_machine();
  nlohmann::ordered_json json;
  json["version"] = COMET_VERSION_STRING;
  json["machine"] = {{"processor", machine.processor},
                     {"features", machine.features},
                     {"cores", machine.cores},
                     {"memory_bytes", machine.memory_bytes},
                     {"available_bytes", machine.available_bytes},
                     {"gpus", gpus_json()}};
  json["backends"] = parts_json(describe_backends());
  json["worlds"] = parts_json(describe_worlds());
  json["environment"] = nlohmann::ordered_json::array();
  for (const EnvLine& line : describe_env()) {
    json["environment"].push_back(
        {{"name", line.name}, {"value", line.value}, {"meaning", line.meaning}});
  }
  json["tuning"] = tuning_json(tuning);
  json["models"] = nlohmann::ordered_json::array();
  for (const ModelPreset& preset : model_presets()) {
    json["models"].push_back({{"name", preset.name},
                              {"aliases", preset.aliases},
                              {"experts", preset.num_experts},
                              {"topk", preset.topk},
                              {"hidden", preset.hidden},
                              {"intermediate", preset.intermediate},
                              {"layers", preset.layers},
                              {"shared_intermediate", preset.shared_intermediate},
                              {"scoring", to_string(preset.router.scoring)},
                              {"renormalize", preset.router.renormalize}});
  }
  if (workspace) json["workspace"] = workspace_json(*workspace);
  return json.dump(2) + "\n";
}

std::optional<WorkspaceReport> find_workspace(const InfoFlags& flags, const Ranks& ranks) {
  if (!flags.has_layer) return std::nullopt;
  check_link(flags.link, flags.backend);
  const MoeDesc desc = resolve_shape(flags.shape);
  check(flags.tokens > 0, ErrorCode::invalid_argument,
        "[info] a layer's workspace depends on its tokens: give --tokens");
  return describe_workspace({.desc = desc,
                             .parallel = resolve_world(flags.world, ranks),
                             .tokens = flags.tokens,
                             .backend = flags.backend});
}

int run_info(const InfoFlags& flags, const Ranks& ranks) {
  const std::optional<WorkspaceReport> workspace = find_workspace(flags, ranks);
  const TuningReport tuning =
      describe_tuning(flags.backend, workspace ? &workspace->query : nullptr, flags.link);
  print(flags.json ? info_json(tuning, workspace) : info_text(tuning, workspace));
  return kExitOk;
}

}  // namespace

void add_info(CLI::App& app, Context& context) {
  const auto flags = std::make_shared<InfoFlags>();
  CLI::App* command = app.add_subcommand(
      "info", "Show this build, machine, environment, known models, and a layer's workspace");
  add_shape(*command, flags->shape);
  add_world(*command, flags->world);
  add_link(*command, flags->link);
  add_backend(*command, flags->backend);
  add_integer(
      *command,
      {"--tokens", "Tokens of all ranks together in the largest call of the layer", 1, 1 << 24},
      flags->tokens, false);
  command->add_flag("--json", flags->json, "One JSON object instead of text");
  command->footer(examples(
      "  comet info\n  comet info --json | jq .models\n"
      "  comet info --model mixtral --ep 8 --tokens 8192\n"
      "  comet info --model mixtral --ep 8 --tokens 8192 --link paced:20 --backend cuda\n"));
  command->callback([flags, command, &context] {
    for (const char* name : kLayerFlags) flags->has_layer |= command->count(name) > 0;
    context.world = &flags->world.world;
    context.command = [flags](Ranks& ranks) { return run_info(*flags, ranks); };
  });
}

}  // namespace comet::cli
