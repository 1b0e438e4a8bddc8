// SPDX-License-Identifier: Apache-2.0
// comet info: what it must name, as text and as JSON.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/run_comet.hpp"
#include "comet/version.hpp"
#include "models/presets.hpp"

namespace comet::cli {
namespace {

TEST(Info, NamesBuildMachineEnvironmentAndModels) {
  const Outcome outcome = run_comet({"info"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.err, "");
  for (const char* words :
       {"comet " COMET_VERSION_STRING "\n", "cores", "GiB available", "oneDNN", "local      built",
        "mpi        not built", "nvshmem    not built",
        "cuda       not built  build with 'make cuda'", "COMET_TIMEOUT_MS=30000"}) {
    EXPECT_NE(outcome.out.find(words), std::string::npos) << words << "\n" << outcome.out;
  }
  for (const ModelPreset& preset : model_presets()) {
    EXPECT_NE(outcome.out.find(preset.name), std::string::npos) << preset.name;
  }
}

TEST(Info, JsonHasTheSame) {
  const Outcome outcome = run_comet({"info", "--json"}, {.variables = {"COMET_TIMEOUT_MS=1234"}});
  EXPECT_EQ(outcome.code, 0);
  const nlohmann::json json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json.at("version"), COMET_VERSION_STRING);
  EXPECT_GE(json.at("machine").at("cores"), 1);
  EXPECT_GT(json.at("machine").at("memory_bytes"), 0);
  EXPECT_EQ(json.at("machine").at("gpus"), nlohmann::json::array());  // this build sees none
  EXPECT_EQ(json.at("backends").at(0).at("name"), "cpu");
  EXPECT_EQ(json.at("backends").at(0).at("built"), true);
  EXPECT_EQ(json.at("worlds").at(0).at("name"), "local");
  EXPECT_EQ(json.at("environment").at(0).at("value"), "1234");
  ASSERT_EQ(json.at("models").size(), model_presets().size());
  EXPECT_EQ(json.at("models").at(0).at("hidden"), model_presets()[0].hidden);
}

}  // namespace
}  // namespace comet::cli
