// SPDX-License-Identifier: Apache-2.0
#include "models/presets.hpp"

#include <gtest/gtest.h>

#include <set>

#include "io/expect_error.hpp"

namespace comet {
namespace {

TEST(Presets, AreValidAndCanBeSpreadOverEightRanks) {
  EXPECT_EQ(model_presets().size(), 5U);
  for (const ModelPreset& preset : model_presets()) {
    SCOPED_TRACE(preset.name);
    EXPECT_NO_THROW(validate(preset.router));
    EXPECT_EQ(preset.router.num_experts, preset.num_experts);
    EXPECT_EQ(preset.router.topk, preset.topk);
    for (const std::int64_t tp : {1, 2, 4, 8}) {
      const MoeDesc desc = make_desc(preset, 4096, DType::bf16);
      EXPECT_NO_THROW(validate(desc, {.ep = 8 / tp, .tp = tp}));
    }
  }
}

TEST(Presets, NamesAndAliasesAreUniqueAndFound) {
  std::set<std::string> names;
  for (const ModelPreset& preset : model_presets()) {
    std::vector<std::string> all = preset.aliases;
    all.push_back(preset.name);
    for (const std::string& name : all) {
      EXPECT_TRUE(names.insert(name).second) << name;
      EXPECT_EQ(&find_preset(name), &preset);
    }
  }
  EXPECT_EQ(find_preset("mixtral").name, "mixtral-8x7b");
  EXPECT_EQ(find_preset("qwen2-moe").num_experts, 64);
}

TEST(Presets, UnknownNamesListAll) {
  for (const ModelPreset& preset : model_presets()) {
    expect_error(ErrorCode::invalid_argument, preset.name, [] { find_preset("mixtral-9x9b"); });
  }
  expect_error(ErrorCode::invalid_argument, "unknown name ''", [] { find_preset(""); });
}

TEST(Presets, MakeTheLayerTheyName) {
  const MoeDesc desc = make_desc(find_preset("deepseek-v3"), 77, DType::bf16);
  EXPECT_EQ(desc.num_experts, 256);
  EXPECT_EQ(desc.topk, 8);
  EXPECT_EQ(desc.hidden, 7168);
  EXPECT_EQ(desc.intermediate, 2048);
  EXPECT_EQ(desc.max_tokens, 77);
  EXPECT_EQ(desc.dtype, DType::bf16);
  EXPECT_TRUE(desc.gated);
  const RouterDesc& router = find_preset("deepseek-v3").router;
  EXPECT_EQ(router.scoring, Scoring::sigmoid);
  EXPECT_EQ(router.scale, 2.5);
  EXPECT_EQ(router.num_groups, 8);
  EXPECT_EQ(router.topk_groups, 4);
  EXPECT_EQ(find_preset("phi-3.5-moe").router.scoring, Scoring::sparsemixer);
  EXPECT_FALSE(find_preset("qwen2-moe-2.7b").router.renormalize);
  EXPECT_TRUE(find_preset("qwen3-moe-30b").router.renormalize);
}

}  // namespace
}  // namespace comet
