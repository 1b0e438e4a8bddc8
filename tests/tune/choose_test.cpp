// SPDX-License-Identifier: Apache-2.0
#include "tune/choose.hpp"

#include <gtest/gtest.h>

#include "io/temp_dir.hpp"
#include "tune/candidates.hpp"
#include "tune/tune_cases.hpp"

namespace comet {
namespace {

const ProfileOrigin kHere{.backend = Backend::cuda, .device = "NVIDIA H100 80GB HBM3"};

Profile one_row() {
  Profile profile{.origin = kHere, .rates = {}, .rows = {}};
  ProfileRow row;
  row.of = shared_gpu_case(8192);
  row.best = {.config = {.groups = 3, .panel = 768}, .t_layer_us = 77};
  add_row(profile, row);
  return profile;
}

TEST(Choose, TheProfileThenItsNearestThenTheModel) {
  const TempDir dir;
  write_profile(one_row(), dir / "p.json");
  const TuningState state = load_tuning(kHere, dir / "p.json");
  EXPECT_EQ(state.note, "");
  const Choice exact = choose_config(state, shared_gpu_case(8192));
  EXPECT_EQ(exact.source, Choice::Source::profile);
  EXPECT_EQ(exact.config.groups, 3);
  EXPECT_EQ(exact.t_layer_us, 77);
  const Choice near = choose_config(state, shared_gpu_case(4096));
  EXPECT_EQ(near.source, Choice::Source::nearest);
  EXPECT_EQ(near.config.panel, 768);
  EXPECT_NE(explain_choice(near, shared_gpu_case(4096)).find("8192 tokens, 2 times more"),
            std::string::npos);
  // A layer asks for rounded numbers of tokens, and tells of its own.
  EXPECT_NE(explain_choice(exact, shared_gpu_case(8192)).find("as the profile says"),
            std::string::npos);
  EXPECT_NE(explain_choice(exact, shared_gpu_case(10240)).find("8192 tokens, 1.2 times fewer"),
            std::string::npos);
  EXPECT_NE(explain_choice(near, shared_gpu_case(8192)).find("as the profile says"),
            std::string::npos);
  const TuneCase far = shared_gpu_case(128);
  const Choice predicted = choose_config(state, far);
  EXPECT_EQ(predicted.source, Choice::Source::model);
  EXPECT_EQ(predicted.config,
            rank_configs(find_machine("h100"), far, comet_configs(far)).front().config);
  EXPECT_NE(explain_choice(predicted, far).find("PREDICTED"), std::string::npos);
}

// A layer must not fail for a profile: what is wrong with it is told, and the model chooses.
TEST(Choose, ARefusedProfileIsToldAndNotUsed) {
  const TempDir dir;
  Profile foreign = one_row();
  foreign.origin.device = "NVIDIA H200";
  write_profile(foreign, dir / "p.json");
  dir.write("bad.json", "{");
  for (const auto& [name, words] : {std::pair{"p.json", "of cuda 'NVIDIA H200'"},
                                    {"bad.json", "bad JSON"},
                                    {"none.json", "none.json"}}) {
    const TuningState state = load_tuning(kHere, dir / name);
    EXPECT_NE(state.note.find(words), std::string::npos) << state.note;
    EXPECT_FALSE(state.profile);
    EXPECT_EQ(choose_config(state, shared_gpu_case(8192)).source, Choice::Source::model);
  }
  EXPECT_EQ(load_tuning(kHere, {}).note, "");
}

TEST(Choose, CalibratedConstantsReplaceTheKnownOnes) {
  const TempDir dir;
  Profile profile = one_row();
  profile.rates = find_machine("h100").rates;
  profile.rates->tail_us = 1234;
  profile.workers = 128;
  write_profile(profile, dir / "p.json");
  const TuningState state = load_tuning(kHere, dir / "p.json");
  EXPECT_EQ(state.machine.rates.tail_us, 1234);
  EXPECT_EQ(state.machine.workers, 128);
}

}  // namespace
}  // namespace comet
