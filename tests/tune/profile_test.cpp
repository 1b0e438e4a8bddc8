// SPDX-License-Identifier: Apache-2.0
// Rows, look-up, merging, and files: whole, damaged, old and foreign.
#include "tune/profile.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "io/expect_error.hpp"
#include "io/temp_dir.hpp"
#include "io/text_file.hpp"
#include "tune/tune_cases.hpp"

namespace comet {
namespace {

const ProfileOrigin kH100{.backend = Backend::cuda, .device = "NVIDIA H100 80GB HBM3"};

ProfileRow row_of(const TuneCase& of, double time, const std::string& date = "2026-01-01") {
  ProfileRow row;
  row.of = of;
  row.best = {.config = {.block_m = 128,
                         .block_n = 256,
                         .groups = 4,
                         .panel = std::min<std::int64_t>(512, of.desc.hidden),
                         .n_c_dispatch = of.workers,
                         .n_c_combine = of.workers,
                         .waves = 3},
              .t_layer_us = time};
  row.runner_up =
      TimedConfig{.config = {.groups = 2, .placement = Placement::blocks}, .t_layer_us = time + 1};
  row.commit = "abc";
  row.date = date;
  return row;
}

Profile profile_of(const std::vector<ProfileRow>& rows) {
  Profile profile{.origin = kH100, .rates = {}, .rows = {}};
  for (const ProfileRow& row : rows) add_row(profile, row);
  return profile;
}

TEST(Profile, FindsTheVeryCase) {
  const Profile profile =
      profile_of({row_of(shared_gpu_case(8192), 1), row_of(shared_gpu_case(16384), 2)});
  const auto match = find_row(profile, shared_gpu_case(16384), Schedule::comet);
  ASSERT_TRUE(match);
  EXPECT_EQ(match->row->best.t_layer_us, 2);
  EXPECT_EQ(match->tokens_ratio, 1);
}

TEST(Profile, ElseTheNearestInTokensWithinAFactorOfFour) {
  const Profile profile =
      profile_of({row_of(shared_gpu_case(1000), 1), row_of(shared_gpu_case(8000), 2)});
  const auto near = find_row(profile, shared_gpu_case(4000), Schedule::comet);
  ASSERT_TRUE(near);
  EXPECT_EQ(near->row->best.t_layer_us, 2);
  EXPECT_EQ(near->tokens_ratio, 2);
  EXPECT_EQ(find_row(profile, shared_gpu_case(2000), Schedule::comet)->row->best.t_layer_us, 1);
  EXPECT_FALSE(find_row(profile, shared_gpu_case(100), Schedule::comet));
  EXPECT_FALSE(find_row(profile, shared_gpu_case(40000), Schedule::comet));
}

TEST(Profile, EverythingButTokensMustBeTheSame) {
  const Profile profile = profile_of({row_of(shared_gpu_case(), 1)});
  const auto expect_none = [&](const auto& change) {
    TuneCase of = shared_gpu_case();
    change(of);
    EXPECT_FALSE(find_row(profile, of, Schedule::comet));
  };
  expect_none([](TuneCase& of) { of.desc.hidden = 2048; });
  expect_none([](TuneCase& of) { of.desc.intermediate = 6400; });
  expect_none([](TuneCase& of) { of.desc.num_experts = 16; });
  expect_none([](TuneCase& of) { of.desc.topk = 1; });
  expect_none([](TuneCase& of) { of.desc.dtype = DType::f16; });
  expect_none([](TuneCase& of) { of.desc.gated = false; });
  expect_none([](TuneCase& of) { of.parallel = {4, 2}; });
  expect_none([](TuneCase& of) { of.link = parse_link("paced:45"); });
  expect_none([](TuneCase& of) { of.workers = 32; });
  expect_none([](TuneCase& of) { of.ranks_per_device = 4; });
  EXPECT_FALSE(find_row(profile, shared_gpu_case(), Schedule::pipelined));
  TuneCase named = shared_gpu_case();
  named.model = "by another name";
  EXPECT_TRUE(find_row(profile, named, Schedule::comet));
}

TEST(Profile, OfTwoRowsForACaseTheLaterStays) {
  const Profile profile = profile_of({row_of(shared_gpu_case(), 1, "2026-01-02"),
                                      row_of(shared_gpu_case(), 2, "2026-01-03"),
                                      row_of(shared_gpu_case(), 3, "2026-01-01")});
  ASSERT_EQ(profile.rows.size(), 1U);
  EXPECT_EQ(profile.rows[0].best.t_layer_us, 2);
}

TEST(Profile, MergeKeepsBothAndTheLaterOfTheSame) {
  Profile into = profile_of({row_of(shared_gpu_case(1), 1), row_of(shared_gpu_case(2), 2)});
  Profile from =
      profile_of({row_of(shared_gpu_case(2), 3, "2026-02-01"), row_of(shared_gpu_case(3), 4)});
  from.rates = find_machine("h200").rates;
  from.workers = 132;
  merge_profile(into, from);
  ASSERT_EQ(into.rows.size(), 3U);
  EXPECT_EQ(into.rows[1].best.t_layer_us, 3);
  EXPECT_EQ(machine_of_profile(into).rates.tail_us, find_machine("h200").rates.tail_us);
  from.origin.device = "NVIDIA H200";
  expect_error(ErrorCode::mismatch, "NVIDIA H200", [&] { merge_profile(into, from); });
}

TEST(Profile, SurvivesItsFile) {
  const TempDir dir;
  Profile profile = profile_of({row_of(shared_gpu_case(), 12.5), row_of(cpu_case(), 3)});
  profile.rows[1].of.backend = Backend::cuda;  // a file is of one backend
  profile.rows[1].runner_up.reset();
  profile.rates = find_machine("h200").rates;
  profile.workers = 132;
  write_profile(profile, dir / "p.json");
  const Profile read = read_profile(dir / "p.json");
  EXPECT_EQ(read.origin, profile.origin);
  EXPECT_EQ(read.workers, 132);
  EXPECT_EQ(read.rates->sum_gbs, profile.rates->sum_gbs);
  ASSERT_EQ(read.rows.size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(is_same_but_tokens(read.rows[i].of, profile.rows[i].of));
    EXPECT_EQ(read.rows[i].of.tokens, profile.rows[i].of.tokens);
    EXPECT_EQ(read.rows[i].best.config, profile.rows[i].best.config);
    EXPECT_EQ(read.rows[i].best.t_layer_us, profile.rows[i].best.t_layer_us);
    EXPECT_EQ(read.rows[i].runner_up.has_value(), profile.rows[i].runner_up.has_value());
    EXPECT_EQ(read.rows[i].date, profile.rows[i].date);
  }
  write_profile(read, dir / "q.json");
  EXPECT_EQ(read_text_file(dir / "p.json", 1 << 20), read_text_file(dir / "q.json", 1 << 20));
  write_profile(Profile{.origin = kH100, .rates = {}, .rows = {}}, dir / "empty.json");
  EXPECT_TRUE(read_profile(dir / "empty.json").rows.empty());
}

TEST(Profile, AddsToTheFileAsItIsByNow) {
  const TempDir dir;
  Profile mine = profile_of({row_of(shared_gpu_case(1), 1)});
  EXPECT_EQ(add_to_profile_file(mine, dir / "p.json").rows.size(), 1U);
  // Another process: a case, a later row of mine, and constants.
  Profile other =
      profile_of({row_of(shared_gpu_case(1), 2, "2026-02-01"), row_of(shared_gpu_case(2), 3)});
  other.rates = find_machine("h200").rates;
  other.workers = 132;
  add_to_profile_file(other, dir / "p.json");
  add_row(mine, row_of(shared_gpu_case(3), 4));
  const Profile all = add_to_profile_file(mine, dir / "p.json");
  ASSERT_EQ(all.rows.size(), 3U);
  EXPECT_EQ(all.rows[0].best.t_layer_us, 2);
  EXPECT_EQ(all.workers, 132);
  EXPECT_EQ(read_profile(dir / "p.json").rows.size(), 3U);
  // One of another device stays as it was.
  other.origin.device = "NVIDIA H200";
  const std::string text = read_text_file(dir / "p.json", 1 << 20);
  expect_error(ErrorCode::mismatch, "p.json", [&] { add_to_profile_file(other, dir / "p.json"); });
  EXPECT_EQ(read_text_file(dir / "p.json", 1 << 20), text);
}

// Each damage is refused with a sentence that names the file and what is wrong.
TEST(Profile, RefusesDamagedFiles) {
  const TempDir dir;
  write_profile(profile_of({row_of(shared_gpu_case(), 12.5)}), dir / "good.json");
  const std::string good = read_text_file(dir / "good.json", 1 << 20);
  const auto expect_refused = [&](const std::string& from, const std::string& to,
                                  const std::string& words) {
    std::string text = good;
    ASSERT_NE(text.find(from), std::string::npos) << from;
    text.replace(text.find(from), from.size(), to);
    dir.write("bad.json", text);
    expect_error(ErrorCode::format, words, [&] { read_profile(dir / "bad.json"); });
    expect_error(ErrorCode::format, "bad.json", [&] { read_profile(dir / "bad.json"); });
  };
  expect_refused("comet-profile", "comic-profile", "no profile of Comet");
  expect_refused("\"version\": 2", "\"version\": 0", "tune anew");
  expect_refused("\"version\": 2", "\"version\": \"x\"", "tune anew");
  expect_refused("\"groups\":4", "\"groups\":0", "row 0: groups is '0'");
  expect_refused("\"groups\":4", "\"groups\":5000", "at most 1024");
  expect_refused("\"groups\":4", "\"groups\":1.5", "a whole number");
  expect_refused("\"panel\":512", "\"panel\":4097", "panel is 4097, at most 4096");
  expect_refused("\"n_c_dispatch\":16", "\"n_c_dispatch\":17", "n_c_dispatch is 17, at most 16");
  expect_refused("\"n_c_combine\":16", "\"n_c_combine\":99", "n_c_combine is 99, at most 16");
  expect_refused("\"waves\":3", "\"waves\":65", "waves is 65, at most 64");
  expect_refused("\"waves\":3", "\"waves\":-1", "waves is '-1'");
  expect_refused("\"panel\":512", "\"pane\":512", "panel");
  expect_refused("12.5", "-1", "t_layer_us");
  expect_refused("\"warps\"", "\"warp\"", "row 0");
  expect_refused("\"hidden\":4096", "\"hidden\":4095", "row 0");
  expect_refused("bf16", "b16", "row 0");
  expect_refused("paced:20", "string", "row 0");
  expect_refused("\"rows\": [", "\"rows\": {\"a\":[", "bad JSON");
  dir.write("bad.json", good.substr(0, good.size() / 2));
  expect_error(ErrorCode::format, "bad.json", [&] { read_profile(dir / "bad.json"); });
  dir.write("bad.json", "[]");
  expect_error(ErrorCode::format, "no profile", [&] { read_profile(dir / "bad.json"); });
  expect_error(ErrorCode::io, "none.json", [&] { read_profile(dir / "none.json"); });
}

TEST(Profile, OfFilesWithoutWavesNobodyHasChosenThem) {
  const TempDir dir;
  write_profile(profile_of({row_of(shared_gpu_case(), 12.5)}), dir / "p.json");
  std::string text = read_text_file(dir / "p.json", 1 << 20);
  EXPECT_EQ(read_profile(dir / "p.json").rows.at(0).best.config.waves, 3);
  for (const char* const key : {",\"waves\":3", ",\"waves\":0"}) {
    ASSERT_NE(text.find(key), std::string::npos) << text;
    text.erase(text.find(key), std::string(key).size());
  }
  dir.write("p.json", text);
  EXPECT_EQ(read_profile(dir / "p.json").rows.at(0).best.config.waves, 0);
}

TEST(Profile, HasAFileNameOfItsDevice) {
  EXPECT_EQ(profile_file_name(kH100), "nvidia-h100-80gb-hbm3-local.json");
  EXPECT_EQ(profile_file_name({.device = "AMD EPYC(TM) 9 / x", .world = "mpi"}),
            "amd-epyc-tm-9-x-mpi.json");
}

// What is committed can be read, is of the device that its name says, and has a case to show.
TEST(Profile, CommittedOnesAreGood) {
  int found = 0;
  for (const auto& entry : std::filesystem::directory_iterator(COMET_TUNING)) {
    const Profile profile = read_profile(entry.path());
    EXPECT_EQ(entry.path().filename(), profile_file_name(profile.origin));
    EXPECT_TRUE(profile.rates);
    EXPECT_GT(profile.rows.size(), 10U);
    ++found;
  }
  EXPECT_GE(found, 2);
}

}  // namespace
}  // namespace comet
