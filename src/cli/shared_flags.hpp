// SPDX-License-Identifier: Apache-2.0
// Groups of flags that several subcommands share: the layer's shape, the world, the link.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "cli/ranks.hpp"
#include "cli/world_choice.hpp"
#include "comet/desc.hpp"
#include "comet/world.hpp"

namespace comet::cli {

/// --model, --experts, --topk, --hidden, --intermediate, --dtype.
struct ShapeFlags {
  std::string model;
  std::int64_t experts = 0;  ///< 0 here and below: as the model says.
  std::int64_t topk = 0;
  std::int64_t hidden = 0;
  std::int64_t intermediate = 0;
  DType dtype = DType::bf16;
};
/// Heading of what add_shape adds, for more of the kind.
inline constexpr const char* kShapeGroup = "Shape of the layer";
void add_shape(CLI::App& app, ShapeFlags& flags);
/// The layer that the flags ask for; max_tokens is left 0. Throws Error(invalid_argument) if
/// something is missing.
MoeDesc resolve_shape(const ShapeFlags& flags);

/// --ungated.
void add_ungated(CLI::App& app, bool& is_ungated);

/// --dtype alone.
void add_dtype(CLI::App& app, DType& dtype);

/// Most ranks of a world.
inline constexpr std::int64_t kMaxRanks = 1024;

/// --world, --ep, --tp. 0 stands for what was not given.
struct WorldFlags {
  WorldChoice world;
  std::int64_t ep = 0;
  std::int64_t tp = 0;
};
void add_world(CLI::App& app, WorldFlags& flags);
/// What is not given follows from the rest: tp = 1, or ranks / ep, and so on. Throws
/// Error(invalid_argument) if ep * tp is not the number of ranks, where that is fixed.
ParallelDesc resolve_world(const WorldFlags& flags, const Ranks& ranks);

/// --world alone; `w_help` says how many ranks world local has if the flag does not.
CLI::Option* add_world_choice(CLI::App& app, WorldChoice& choice, const std::string& w_help);

/// --backend.
void add_backend(CLI::App& app, Backend& backend);

/// --link.
void add_link(CLI::App& app, LinkSpec& link);
/// Says in the help of --link that it also takes a rate that is to be measured, where a command
/// measures one.
void describe_auto_link(CLI::App& app);

}  // namespace comet::cli
