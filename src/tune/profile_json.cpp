// SPDX-License-Identifier: Apache-2.0
// Profiles as JSON: the file's form is documented in docs/tuning.md.
#include <nlohmann/json.hpp>

#include "base/check.hpp"
#include "io/folder_lock.hpp"
#include "io/follow_links.hpp"
#include "io/json.hpp"
#include "io/new_file.hpp"
#include "io/text_file.hpp"
#include "layout/run_config.hpp"
#include "tune/profile.hpp"

namespace comet {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr int kProfileVersion = 2;
constexpr const char* kProfileFormat = "comet-profile";
constexpr std::size_t kMostProfileBytes = std::size_t{1} << 26;

ordered_json config_to_json(const TimedConfig& timed) {
  ordered_json object = {{"t_layer_us", timed.t_layer_us}};
  object.update(tune_config_json(timed.config));
  return object;
}

// A whole number from `low` on, as far as an int goes.
template <typename T>
T whole(const json& object, const char* key, std::int64_t low) {
  const json& value = object.at(key);
  check(value.is_number_integer() && value.get<std::int64_t>() >= low &&
            value.get<std::int64_t>() <= INT32_MAX,
        ErrorCode::format, "{} is {}, a whole number from {}", key, quote_text(value.dump()), low);
  return static_cast<T>(value.get<std::int64_t>());
}

// A choice for a case, whose limits it keeps.
TimedConfig read_config(const json& object, const TuneCase& of) {
  TimedConfig timed;
  timed.t_layer_us = object.at("t_layer_us").get<double>();
  check(timed.t_layer_us > 0, ErrorCode::format, "t_layer_us is {}, above 0", timed.t_layer_us);
  TuneConfig& config = timed.config;
  config.block_m = whole<std::int64_t>(object, "block_m", 0);
  config.block_n = whole<std::int64_t>(object, "block_n", 0);
  config.groups = whole<std::int64_t>(object, "groups", 1);
  config.panel = whole<std::int64_t>(object, "panel", 0);
  config.chunk = whole<std::int64_t>(object, "chunk", 0);
  config.n_c_dispatch = whole<int>(object, "n_c_dispatch", -1);
  config.n_c_combine = whole<int>(object, "n_c_combine", -1);
  config.placement = parse_placement(object.at("placement").get<std::string>());
  if (object.contains("waves")) {  // files are older than the key
    config.waves = whole<std::int64_t>(object, "waves", 0);
  }
  const auto at_most = [](const char* key, std::int64_t value, std::int64_t most) {
    check(value <= most, ErrorCode::format, "{} is {}, at most {}", key, value, most);
  };
  at_most("groups", config.groups, kMaxGroups);
  at_most("waves", config.waves, kMaxWaves);
  at_most("panel", config.panel, widest_panel(of.desc));
  at_most("n_c_dispatch", config.n_c_dispatch, of.workers);
  at_most("n_c_combine", config.n_c_combine, of.workers);
  return timed;
}

ProfileRow read_profile_row(const json& object, Backend backend) {
  ProfileRow row;
  TuneCase& of = row.of;
  of.model = object.at("model").get<std::string>();
  of.desc.hidden = whole<std::int64_t>(object, "hidden", 1);
  of.desc.intermediate = whole<std::int64_t>(object, "intermediate", 1);
  of.desc.num_experts = whole<std::int64_t>(object, "experts", 1);
  of.desc.topk = whole<std::int64_t>(object, "topk", 1);
  of.desc.dtype = parse_dtype(object.at("dtype").get<std::string>());
  of.desc.gated = object.at("gated").get<bool>();
  of.tokens = whole<std::int64_t>(object, "tokens", 0);
  of.parallel = {.ep = whole<std::int64_t>(object, "ep", 1),
                 .tp = whole<std::int64_t>(object, "tp", 1)};
  of.backend = backend;
  of.link = parse_link(object.at("link").get<std::string>());
  of.workers = whole<int>(object, "workers", 1);
  of.ranks_per_device = whole<int>(object, "ranks_per_device", 1);
  row.schedule = parse_schedule(object.at("schedule").get<std::string>());
  row.best = read_config(object.at("best"), of);
  if (!object.at("runner_up").is_null()) row.runner_up = read_config(object.at("runner_up"), of);
  row.commit = object.at("commit").get<std::string>();
  row.date = object.at("date").get<std::string>();
  validate(of.desc, of.parallel);
  return row;
}

// Runs `read`, and says of what it throws where in the file that was.
template <typename Read>
void read_part(const std::string& source, const std::string& part, Read read) {
  try {
    read();
  } catch (const json::exception& error) {
    fail(ErrorCode::format, "[profile] {}: {}: {}", source, part, quote_text(error.what()));
  } catch (const Error& error) {
    fail(ErrorCode::format, "[profile] {}: {}: {}", source, part, error.what());
  }
}

void check_version(const json& root, const std::string& source) {
  check(root.is_object() && root.value("format", json()) == kProfileFormat, ErrorCode::format,
        "[profile] {}: no profile of Comet: 'format' is not '{}'", source, kProfileFormat);
  const json version = root.value("version", json());
  check(version == kProfileVersion, ErrorCode::format,
        "[profile] {}: version {}, this Comet reads {}: tune anew", source,
        quote_text(version.dump()), kProfileVersion);
}

}  // namespace

ordered_json tune_config_json(const TuneConfig& config) {
  return {{"block_m", config.block_m},
          {"block_n", config.block_n},
          {"groups", config.groups},
          {"panel", config.panel},
          {"chunk", config.chunk},
          {"n_c_dispatch", config.n_c_dispatch},
          {"n_c_combine", config.n_c_combine},
          {"placement", to_string(config.placement)},
          {"waves", config.waves}};
}

ordered_json profile_row_json(const ProfileRow& row) {
  const TuneCase& of = row.of;
  ordered_json object;
  object["model"] = of.model;
  object["hidden"] = of.desc.hidden;
  object["intermediate"] = of.desc.intermediate;
  object["experts"] = of.desc.num_experts;
  object["topk"] = of.desc.topk;
  object["dtype"] = to_string(of.desc.dtype);
  object["gated"] = of.desc.gated;
  object["tokens"] = of.tokens;
  object["ep"] = of.parallel.ep;
  object["tp"] = of.parallel.tp;
  object["link"] = to_string(of.link);
  object["workers"] = of.workers;
  object["ranks_per_device"] = of.ranks_per_device;
  object["schedule"] = to_string(row.schedule);
  object["best"] = config_to_json(row.best);
  object["runner_up"] = row.runner_up ? config_to_json(*row.runner_up) : ordered_json(nullptr);
  object["commit"] = row.commit;
  object["date"] = row.date;
  return object;
}

Profile read_profile(const std::filesystem::path& path) {
  const std::string source = path.string();
  const json root = parse_json(read_text_file(path, kMostProfileBytes), "profile", source);
  check_version(root, source);
  Profile profile;
  read_part(source, "head", [&] {
    profile.origin = {.backend = parse_backend(root.at("backend").get<std::string>()),
                      .device = root.at("device").get<std::string>(),
                      .world = root.at("world").get<std::string>()};
    check(root.at("rows").is_array(), ErrorCode::format, "rows is no array");
    const json& machine = root.at("machine");
    if (machine.is_null()) return;
    profile.workers = whole<int>(machine, "workers", 1);
    profile.rates = rates_from_json(machine.at("rates"), "machine", "rates");
  });
  for (std::size_t i = 0; i < root["rows"].size(); ++i) {
    read_part(source, fmt::format("row {}", i),
              [&] { add_row(profile, read_profile_row(root["rows"][i], profile.origin.backend)); });
  }
  return profile;
}

void write_profile(const Profile& profile, const std::filesystem::path& path) {
  ordered_json root;
  root["format"] = kProfileFormat;
  root["version"] = kProfileVersion;
  root["backend"] = to_string(profile.origin.backend);
  root["device"] = profile.origin.device;
  root["world"] = profile.origin.world;
  root["machine"] = nullptr;
  if (profile.rates) {
    root["machine"] = {{"workers", profile.workers}, {"rates", rates_to_json(*profile.rates)}};
  }
  // One line a row, so that a diff of two profiles shows which cases changed.
  root["rows"] = ordered_json::array();
  std::string text = root.dump(1);
  const std::string empty = "[]";
  text.resize(text.rfind(empty));
  text += "[";
  for (std::size_t i = 0; i < profile.rows.size(); ++i) {
    text += (i == 0 ? "\n  " : ",\n  ") + profile_row_json(profile.rows[i]).dump();
  }
  text += "\n ]\n}\n";
  NewFile file(path, "profile");
  file.append(text);
  file.commit();
}

Profile add_to_profile_file(const Profile& found, const std::filesystem::path& path) {
  const FolderLock lock(follow_links(path));
  Profile profile{.origin = found.origin, .rates = {}, .rows = {}};
  if (std::filesystem::exists(path)) {
    profile = read_profile(path);
    require_origin(profile, found.origin, path.string());
  }
  merge_profile(profile, found);
  write_profile(profile, path);
  return profile;
}

}  // namespace comet
