// SPDX-License-Identifier: Apache-2.0
// comet run on small checkpoints: y must be what the transformers package computed.
#include <gtest/gtest.h>

#include <cctype>
#include <cmath>
#include <ostream>
#include <string>
#include <vector>

#include "cli/run_comet.hpp"
#include "io/safetensors.hpp"
#include "io/temp_dir.hpp"

namespace comet::cli {
namespace {

using Arguments = std::vector<std::string>;

struct RunCase {
  std::string model;
  int layer = 0;
  Arguments world = {};
  std::string schedule = "comet";
};

std::string name_of(const RunCase& c) {
  std::string name = c.model + "_" + std::to_string(c.layer) + "_" + c.schedule;
  for (const std::string& word : c.world) {
    for (const char letter : "_" + word) {
      if (std::isalnum(static_cast<unsigned char>(letter)) != 0 || letter == '_') name += letter;
    }
  }
  return name;
}

void PrintTo(const RunCase& c, std::ostream* out) { *out << name_of(c); }

Arguments operator+(Arguments a, const Arguments& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// Largest |y - expected| over the largest |expected|.
double worst_error(const std::vector<float>& y, const std::vector<float>& expected) {
  double worst = 0;
  double largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(static_cast<double>(y[i]) - expected[i]);
    if (!(difference <= worst)) worst = difference;  // NaN stays
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
  }
  return worst / largest;
}

Arguments arguments_of(const RunCase& c, const std::string& out) {
  const std::string dir = checkpoint(c.model).string();
  return Arguments{
             "run",     "--checkpoint",          dir,          "--tokens", dir + "/io.safetensors",
             "--layer", std::to_string(c.layer), "--schedule", c.schedule, "--out",
             out} +
         c.world;
}

void expect_matches(const RunCase& c, const Arguments& more, double allowed) {
  const TempDir dir;
  const std::string out = (dir / "y.safetensors").string();
  const Outcome outcome = run_comet(arguments_of(c, out) + more);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  const SafetensorsFile file = SafetensorsFile::open(out);
  const SafetensorsFile io = SafetensorsFile::open(checkpoint(c.model) / "io.safetensors");
  const StoredTensor& expected = io.tensor("y." + std::to_string(c.layer));
  ASSERT_EQ(file.tensors().size(), 1U);
  ASSERT_EQ(file.tensor("y").shape, expected.shape);
  EXPECT_LE(worst_error(to_float32(file.tensor("y")), to_float32(expected)), allowed)
      << outcome.out;
}

class Matches : public testing::TestWithParam<RunCase> {};

TEST_P(Matches, TheModelsOwnOutput) { expect_matches(GetParam(), {}, 1e-5); }

std::vector<RunCase> all_cases() {
  std::vector<RunCase> cases;
  for (const std::string model : {"mixtral", "qwen2_moe", "qwen3_moe", "phimoe"}) {
    // I is 48 or, for the Qwen models, 24: a slice must be a multiple of 8.
    const Arguments both = model.starts_with("qwen") ? Arguments{"--world", "local:6", "--tp", "3"}
                                                     : Arguments{"--world", "local:4", "--tp", "2"};
    for (const std::string schedule : {"reference", "sequential", "pipelined", "comet"}) {
      cases.push_back({model, 0, both, schedule});
    }
    cases.push_back({model, 1, {"--world", "local:1"}});
    cases.push_back({model, 1, {"--world", "local:4", "--ep", "4"}});
    cases.push_back({model, 0, {"--ep", "1", "--tp", "3"}});
    cases.push_back({model, 0, {"--ep", "3", "--groups", "2", "--workers", "3"}});
  }
  for (const std::string model :
       {"mixtral_fused", "mixtral_sharded", "qwen2_moe_fused", "qwen2_moe_norm", "phimoe_fused"}) {
    cases.push_back({model, 1, {"--ep", "2"}});
  }
  cases.push_back({"mixtral", 0, {"--world", "local:16", "--ep", "8"}});  // idle ranks
  cases.push_back({"qwen2_moe", 0, {"--ep", "2", "--link", "paced:1"}});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, Matches, testing::ValuesIn(all_cases()),
                         [](const auto& param) { return name_of(param.param); });

TEST(Run, Bfloat16IsNear) {
  const RunCase c{"qwen3_moe", 0, {"--ep", "2"}};
  expect_matches(c, {"--dtype", "bf16"}, 0.03);
  const TempDir dir;
  const std::string out = (dir / "y.safetensors").string();
  ASSERT_EQ(run_comet(arguments_of(c, out) + Arguments{"--dtype", "bf16"}).code, 0);
  EXPECT_EQ(SafetensorsFile::open(out).tensor("y").type, StoredType::bf16);
}

TEST(Run, WritesWhereTheResultIsFrom) {
  const TempDir dir;
  const std::string out = (dir / "y.safetensors").string();
  ASSERT_EQ(run_comet(arguments_of({"phimoe", 1, {"--ep", "2", "--tp", "2"}}, out)).code, 0);
  const auto metadata = SafetensorsFile::open(out).metadata();
  EXPECT_EQ(metadata.at("model_type"), "phimoe");
  EXPECT_EQ(metadata.at("layer"), "1");
  EXPECT_EQ(metadata.at("schedule"), "comet");
  EXPECT_EQ(metadata.at("ep"), "2");
  EXPECT_EQ(metadata.at("tp"), "2");
}

TEST(Run, ReadsHalfPrecisionTokens) {
  const TempDir dir;
  const std::vector<std::uint16_t> halves(3 * 32, 0x3c00);  // ones
  const TensorToWrite x{"x", StoredType::f16, {3, 32}, halves.data()};
  write_safetensors(dir / "x.safetensors", {&x, 1});
  const std::vector<float> ones(3 * 32, 1.0F);
  const TensorToWrite wide{"x", StoredType::f32, {3, 32}, ones.data()};
  write_safetensors(dir / "wide.safetensors", {&wide, 1});
  std::vector<std::vector<float>> results;
  for (const char* name : {"x.safetensors", "wide.safetensors"}) {
    const Outcome outcome =
        run_comet({"run", "--checkpoint", checkpoint("mixtral").string(), "--tokens",
                   (dir / name).string(), "--out", (dir / "y").string()});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    results.push_back(to_float32(SafetensorsFile::open(dir / "y").tensor("y")));
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_NE(results[0], std::vector<float>(3 * 32, 0.0F));
}

TEST(Run, CheckComparesWithTheReference) {
  for (const char* dtype : {"f32", "bf16"}) {
    const Outcome outcome =
        run_comet({"run", "--checkpoint", checkpoint("qwen2_moe").string(), "--tokens",
                   "random:100", "--ep", "3", "--tp", "1", "--dtype", dtype, "--check"});
    EXPECT_EQ(outcome.code, 0) << outcome.out << outcome.err;
    EXPECT_NE(outcome.out.find("against reference, allowed"), std::string::npos) << outcome.out;
    EXPECT_NE(outcome.out.find("passed"), std::string::npos) << outcome.out;
  }
}

TEST(Run, SummaryNamesTokensAndRowsOfRanks) {
  const Outcome outcome = run_comet({"run", "--checkpoint", checkpoint("mixtral").string(),
                                     "--tokens", "random:7", "--world", "local:2", "--tp", "2"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  for (const char* words : {"mixtral, layer 0: 8 experts, top 2, hidden 32", "local:2, ep 1 x tp 2",
                            "7; per rank 4 3", "per rank 14 14"}) {
    EXPECT_NE(outcome.out.find(words), std::string::npos) << words << "\n" << outcome.out;
  }
}

TEST(Run, SeedDecidesRandomTokens) {
  const TempDir dir;
  const auto y_of = [&](const std::string& seed) {
    const std::string out = (dir / "y").string();
    EXPECT_EQ(run_comet({"run", "--checkpoint", checkpoint("mixtral").string(), "--tokens",
                         "random:4", "--seed", seed, "--out", out})
                  .code,
              0);
    return to_float32(SafetensorsFile::open(out).tensor("y"));
  };
  EXPECT_EQ(y_of("5"), y_of("5"));
  EXPECT_NE(y_of("5"), y_of("6"));
}

TEST(Run, NoTokensGiveAnEmptyResult) {
  const TempDir dir;
  const std::string out = (dir / "y").string();
  const Outcome outcome = run_comet({"run", "--checkpoint", checkpoint("qwen2_moe").string(),
                                     "--tokens", "random:0", "--ep", "2", "--check", "--out", out});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(SafetensorsFile::open(out).tensor("y").shape, (std::vector<std::int64_t>{0, 32}));
}

}  // namespace
}  // namespace comet::cli
