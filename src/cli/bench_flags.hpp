// SPDX-License-Identifier: Apache-2.0
// The case of `comet bench` and `comet trace`: which layer, where, by which schedules.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/planned_bench.hpp"
#include "cli/shared_flags.hpp"
#include "comet/layer.hpp"

namespace comet::cli {

struct BenchFlags {
  static constexpr std::int64_t kAuto = -1;

  BenchFlags() { shape.dtype = DType::f32; }  // not every processor has products of bf16

  ShapeFlags shape;
  bool is_ungated = false;
  WorldFlags world;
  Backend backend = Backend::cpu;
  LinkSpec link;
  bool is_dtype_given = false;      ///< If not, layers on cuda, which have no f32, get bf16.
  std::vector<Schedule> schedules;  ///< Empty: all tiled ones of the backend.
  std::string routing = "uniform";
  Scale scale;
  std::int64_t tokens = 0;  ///< 0: as the scale says.
  std::int64_t groups = kAuto;
  std::int64_t n_c_dispatch = kAuto;
  std::int64_t n_c_combine = kAuto;
  std::optional<Placement> placement = {};
  std::int64_t waves = kAuto;
  bool no_graphs = false;
  std::int64_t workers = 0;
  std::int64_t panel = 0;
  std::int64_t block_m = 0;
  std::int64_t block_n = 0;
  std::uint64_t seed = 1;
};

/// The layer, its numbers and where it runs.
void add_case_flags(CLI::App& app, BenchFlags& flags);
/// Which schedules, what is not left to the tuning, and how calls are made.
void add_schedule_flags(CLI::App& app, BenchFlags& flags);
/// Heading of what add_schedule_flags adds, for more of the kind.
inline constexpr const char* kSchedulesGroup = "Schedules";

/// The case that the flags ask for on these ranks. Throws Error(invalid_argument), or
/// Error(unsupported) for what these ranks do not have.
PlannedBench plan_bench(const BenchFlags& flags, const Ranks& ranks);

}  // namespace comet::cli
