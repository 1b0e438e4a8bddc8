// SPDX-License-Identifier: Apache-2.0
// MachineModel: the few constants from which a layer's time is predicted, and machines known by
// name.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

#include "comet/world.hpp"

namespace comet {

/// Times in microseconds, rates in 10^9 bytes per second, of one rank unless said otherwise. They
/// are effective rates beside whatever else runs then, not peaks. All are above 0.
struct MachineRates {
  // Products. `worker_tflops` counts 2 operations per multiply-add of whole tiles.
  double worker_tflops = 1;    ///< Of one worker, in sequential's products.
  double tile_us = 1;          ///< Of an item beside its multiply-adds: epilogue, pipeline fill.
  double weight_gbs = 1000;    ///< Of a device: reading weights beside products.
  double cut_slowdown = 0.01;  ///< Extra time where ranks that share a device share their tokens.
  // The same beside communication, in comet.
  double overlap_tflops = 1;           ///< See worker_tflops.
  double overlap_tile_us = 1;          ///< See tile_us.
  double overlap_cut_slowdown = 0.01;  ///< See cut_slowdown.
  double reread_gbs = 1000;  ///< Of a device: reading activations again that no cache has kept.
  double cache_mb = 50;      ///< Of a device: what its last cache holds.
  // What a call does before its first byte moves, and after its last.
  double publish_us = 1;         ///< Of any call.
  double publish_gbs = 100;      ///< Copying own tokens for others, on GPUs beside the plan.
  double plan_us = 1;            ///< Headers, ids, plan and launches of any call.
  double plan_ns_per_token = 1;  ///< Of the tokens of all ranks.
  double phase_us = 1;           ///< Of comet, for each group.
  double tail_us = 1;            ///< Of comet: last signals and sums.
  // Copies when nothing else runs, of all multiprocessors of a GPU together, of which a rank may
  // have a part; on CPUs of all workers of a rank.
  double pull_gbs = 100;  ///< Reading tokens of other ranks.
  double row_gbs = 100;   ///< Writing rows.
  double sum_gbs = 100;   ///< Reading rows to sum them.
  double push_gbs = 100;  ///< Writing partial sums to their homes.
  // How many times longer copies take beside products.
  double overlap_pull = 1;  ///< Of dispatch.
  double overlap_push = 1;  ///< Of combine.
  // Blocks that only communicate.
  double block_pull_gbs = 20;  ///< Tokens that one block pulls, and rows that it writes.
  double block_sum_gbs = 10;   ///< Rows that one block sums.
  double block_idle = 0.6;     ///< Part of such a block's time that products lose.
  // Links that are neither paced nor memory.
  double link_gbs = 1e6;      ///< native: of a rank's busiest direction, between devices.
  double host_pull_gbs = 40;  ///< host: of all ranks of a device together, in dispatch.
  double host_push_gbs = 25;  ///< host: in combine.
};

/// A constant by name.
struct MachineRate {
  std::string_view name;
  double MachineRates::*value;
};
/// All of them, in the order above.
std::span<const MachineRate> machine_rates();

/// A device, with what is known of it.
struct MachineModel {
  std::string name;  ///< For flags and files, for example "h100".
  /// As CUDA or the processor calls it; empty if no such device was measured.
  std::string device = {};
  std::string source;  ///< Where the constants come from, for people.
  Backend backend = Backend::cuda;
  int workers = 1;  ///< Multiprocessors, or processors.
  /// Copies of comet take the time of the workers that compute (CPUs), not of others beside them.
  bool workers_copy = false;
  MachineRates rates;
};

/// Machines known by name: measured ones first, then those of published rates.
std::span<const MachineModel> known_machines();
/// Throws Error(invalid_argument) that lists the names.
const MachineModel& find_machine(std::string_view name);
/// The known machine of that device, or the first of the backend, of which a prediction is a guess.
const MachineModel& machine_of_device(Backend backend, std::string_view device);

/// The constants as an object, and back; throws Error(format) "[stage] source: ..." if one is
/// missing, unknown, or not above 0.
nlohmann::ordered_json rates_to_json(const MachineRates& rates);
MachineRates rates_from_json(const nlohmann::json& json, std::string_view stage,
                             const std::string& source);

}  // namespace comet
