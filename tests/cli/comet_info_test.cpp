// SPDX-License-Identifier: Apache-2.0
// comet info: what it must name, as text and as JSON, and the workspace of a layer that it
// foretells.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/run_comet.hpp"
#include "comet/version.hpp"
#include "io/temp_dir.hpp"
#include "io/text_file.hpp"
#include "models/presets.hpp"

namespace comet::cli {
namespace {

TEST(Info, NamesBuildMachineEnvironmentAndModels) {
  const Outcome outcome = run_comet({"info"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.err, "");
  for (const char* words :
       {"comet " COMET_VERSION_STRING "\n", "cores", "GiB available", "oneDNN", "local      built",
        "process    built", "nvshmem    not built", "cuda       not built  build with 'make cuda'",
        "COMET_TIMEOUT_MS=30000", "COMET_PROFILE=", "COMET_HOST=", "COMET_INTERFACE="}) {
    EXPECT_NE(outcome.out.find(words), std::string::npos) << words << "\n" << outcome.out;
  }
  for (const ModelPreset& preset : model_presets()) {
    EXPECT_NE(outcome.out.find(preset.name), std::string::npos) << preset.name;
  }
}

// Beside the command lies what it loads for MPI, if this machine has MPI; a copy has nothing beside
// it.
TEST(Info, SaysWhatWorldMpiLacks) {
  const TempDir dir;
  const std::string copy = (dir / "comet").string();
  std::filesystem::copy_file(comet_path(), copy);
  for (const Outcome& outcome :
       {run_program(copy, {"info"}), run_program(copy, {"check", "--world", "mpi"})}) {
    const std::string text = outcome.out + outcome.err;
    EXPECT_NE(text.find("libcomet_mpi.so cannot be loaded: "), std::string::npos) << text;
    EXPECT_NE(text.find("Open MPI is installed (libopenmpi-dev)"), std::string::npos) << text;
  }
  expect_refusal(run_program(copy, {"check", "--world", "mpi"}), 2, "[world] mpi: libcomet_mpi.so");
  const std::string own = run_comet({"info"}).out;
  EXPECT_TRUE(own.find("mpi        built      ranks are processes: mpirun -n <ranks> comet") !=
                  std::string::npos ||
              own.find("mpi        not built  libcomet_mpi.so") != std::string::npos)
      << own;
}

// As the Python package lies: the command in bin/, what it loads in the folder above. Started by
// name, so that the name says nothing of where it is.
TEST(Info, FindsWhatItLoadsWhereverItLies) {
  const auto plugin = std::filesystem::path(comet_path()).parent_path() / "libcomet_mpi.so";
  if (!std::filesystem::exists(plugin)) GTEST_SKIP() << "this build has no MPI";
  const TempDir dir;
  std::filesystem::create_directory(dir / "bin");
  std::filesystem::copy_file(comet_path(), dir / "bin" / "comet");
  std::filesystem::copy_file(plugin, dir / "libcomet_mpi.so");
  const Outcome outcome =
      run_program("/usr/bin/env", {"PATH=" + (dir / "bin").string(), "comet", "info"});
  EXPECT_NE(outcome.out.find("mpi        built "), std::string::npos) << outcome.out << outcome.err;
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

TEST(Info, SaysWhatALayerWouldChooseAndWhy) {
  const std::vector<std::string> ask = {"info",     "--model", "mixtral", "--ep", "2",
                                        "--tokens", "64",      "--dtype", "f32",  "--json"};
  const auto tuning_with = [&](const std::string& profile) {
    const Outcome outcome = run_comet(ask, {.variables = {"COMET_PROFILE=" + profile}});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out).at("tuning");
  };
  const nlohmann::json none = tuning_with("");
  EXPECT_EQ(none.at("choice").at("source"), "model");
  EXPECT_GE(none.at("choice").at("groups"), 1);
  EXPECT_NE(none.at("state").get<std::string>().find("predicted"), std::string::npos);
  // What cannot be used is told, and stops nothing.
  const nlohmann::json lost = tuning_with("/nowhere/p.json");
  EXPECT_EQ(lost.at("choice").at("source"), "model");
  EXPECT_NE(lost.at("state").get<std::string>().find("/nowhere/p.json"), std::string::npos);
  // What comet tune wrote is taken.
  const TempDir dir;
  const std::string path = (dir / "p.json").string();
  ASSERT_EQ(run_comet({"tune", "--experts", "4", "--topk", "2", "--hidden", "32", "--intermediate",
                       "64", "--ep", "2", "--tokens", "64", "--profile", path})
                .code,
            0);
  const auto text_on = [&](const std::string& link) {
    return run_comet({"info", "--experts", "4", "--topk", "2", "--hidden", "32", "--intermediate",
                      "64", "--ep", "2", "--tokens", "64", "--dtype", "f32", "--link", link},
                     {.variables = {"COMET_PROFILE=" + path}})
        .out;
  };
  EXPECT_NE(text_on("native").find("measured, as the profile says"), std::string::npos);
  EXPECT_NE(text_on("native").find("p.json, 1 case of "), std::string::npos);
  EXPECT_NE(text_on("paced:3").find("by the model, PREDICTED"), std::string::npos);
}

// The bench makes the layer and asks it.
TEST(Info, ForetellsTheWorkspaceThatALayerTakes) {
  const TempDir dir;
  const std::string rows = (dir / "rows.jsonl").string();
  const auto ask = [](std::vector<std::string> arguments) {
    for (const char* more : {"--experts", "6", "--topk", "3", "--hidden", "72", "--intermediate",
                             "48", "--ep", "3", "--tp", "2", "--dtype", "f32", "--tokens", "700"}) {
      arguments.emplace_back(more);
    }
    const Outcome outcome = run_comet(arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.out;
  };
  const auto workspace = nlohmann::json::parse(ask({"info", "--json"})).at("workspace");
  ask({"bench", "--schedules", "comet", "--rounds", "1", "--json", rows});
  const auto row = nlohmann::json::parse(read_text_file(rows, 1 << 20));
  EXPECT_EQ(workspace.at("bytes"), row.at("workspace_bytes"));
  EXPECT_EQ(workspace.at("max_tokens"), 117);  // of 700 over 6 ranks
  EXPECT_EQ(workspace.at("token_bytes"), 117 * 72 * 4);
  EXPECT_EQ(workspace.at("partial_bytes"), 6 * 117 * 72 * 4);
}

TEST(Info, WorkspaceAsText) {
  const Outcome outcome =
      run_comet({"info", "--model", "mixtral", "--ep", "8", "--tokens", "8192"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  for (const char* words : {"workspace of a rank", "up to 1024 of 4096 elements, bf16", "8.00 MiB",
                            "64.00 MiB", "on cpu, 8 x 1 ranks"}) {
    EXPECT_NE(outcome.out.find(words), std::string::npos) << words << "\n" << outcome.out;
  }
}

TEST(Info, AsksForWhatAWorkspaceNeeds) {
  expect_refusal(run_comet({"info", "--model", "mixtral"}), 2, "give --tokens");
  for (const char* flag : {"--tokens", "--ep"}) {
    expect_refusal(run_comet({"info", flag, "5"}), 2, "no layer given");
  }
  expect_refusal(run_comet({"info", "--hidden", "64", "--tokens", "5"}), 2, "no layer given");
  expect_refusal(run_comet({"info", "--model", "mixtral", "--tokens", "5", "--tp", "5"}), 2,
                 "8 x tp = 40");
  expect_refusal(run_comet({"info", "--model", "mixtral", "--tokens", "8", "--backend", "cuda"}), 2,
                 "cuda");
  expect_refusal(run_comet({"info", "--model", "mixtral", "--tokens", "8", "--link", "host"}), 2,
                 "only between ranks on GPUs");
}

}  // namespace
}  // namespace comet::cli
