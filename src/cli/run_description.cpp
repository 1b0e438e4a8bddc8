// SPDX-License-Identifier: Apache-2.0
#include "cli/run_description.hpp"

#include <algorithm>
#include <span>

#include "base/check.hpp"
#include "comet/version.hpp"
#include "layer/world_runner.hpp"
#include "measure/build_info.hpp"

namespace comet::cli {
namespace {

constexpr char kBetween = '\0';  // neither names nor arguments of a process have it

std::string value_of(const CLI::Option& option) {
  if (option.count() == 0) return option.get_default_str();
  std::string value;
  for (const std::string& result : option.results()) {
    value += (value.empty() ? "" : " ") + result;
  }
  return value;
}

std::string pack(const RunDescription& description) {
  std::string text;
  for (const auto& [name, value] : description) text += name + kBetween + value + kBetween;
  return text;
}

RunDescription unpack(std::span<const std::byte> bytes) {
  std::vector<std::string> texts(1);
  for (const std::byte byte : bytes) {
    const char letter = static_cast<char>(byte);
    if (letter == kBetween) {
      texts.emplace_back();
    } else {
      texts.back() += letter;
    }
  }
  RunDescription description;
  for (std::size_t i = 0; i + 1 < texts.size(); i += 2) {
    description.emplace_back(texts[i], texts[i + 1]);
  }
  return description;
}

std::string shown(const std::string& value) { return value.empty() ? "not given" : value; }

// The first thing that differs, or nothing. Other subcommands have other flags.
std::string find_difference(int rank, const RunDescription& other, const RunDescription& first) {
  for (std::size_t i = 0; i < std::min(other.size(), first.size()); ++i) {
    if (other[i] == first[i]) continue;
    return fmt::format(
        "rank {} runs {} {}, rank 0 {}{}", rank, other[i].first, shown(other[i].second),
        other[i].first == first[i].first ? "" : first[i].first + " ", shown(first[i].second));
  }
  return {};
}

}  // namespace

RunDescription describe_run(const CLI::App& command) {
  RunDescription description = {{"version", COMET_VERSION_STRING},
                                {"commit", build_commit()},
                                {"subcommand", command.get_name()}};
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = option->get_single_name();
    if (name == "help" || name == "world") continue;
    description.emplace_back(name, value_of(*option));
  }
  return description;
}

void check_alike(World& world, const RunDescription& own) {
  const std::string text = pack(own);
  const auto all = gather_bytes(world, std::as_bytes(std::span(text)));
  const RunDescription first = unpack(all.front());
  for (int rank = 1; rank < world.size(); ++rank) {
    const std::string difference =
        find_difference(rank, unpack(all[static_cast<std::size_t>(rank)]), first);
    check(difference.empty(), ErrorCode::mismatch, "[world] {}: all ranks must run the same",
          difference);
  }
}

}  // namespace comet::cli
