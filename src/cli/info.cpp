// SPDX-License-Identifier: Apache-2.0
// comet info: this build, this machine, the environment, and the models that are known by name.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/env.hpp"
#include "cli/commands.hpp"
#include "cli/exit_code.hpp"
#include "cli/flags.hpp"
#include "cli/machine.hpp"
#include "cli/output.hpp"
#include "comet/version.hpp"
#include "layer/backends.hpp"
#include "models/presets.hpp"

namespace comet::cli {
namespace {

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

std::string info_text() {
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
  return text + models_text();
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

std::string info_json() {
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
  return json.dump(2) + "\n";
}

}  // namespace

void add_info(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("info", "Show this build, machine, environment, and known models");
  const auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "One JSON object instead of text");
  command->footer(examples("  comet info\n  comet info --json | jq .models\n"));
  command->callback([json, &context] {
    context.command = [json] {
      print(*json ? info_json() : info_text());
      return static_cast<int>(kExitOk);
    };
  });
}

}  // namespace comet::cli
