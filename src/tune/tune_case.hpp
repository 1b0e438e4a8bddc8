// SPDX-License-Identifier: Apache-2.0
// TuneCase: what the best choices of a layer depend on. TuneConfig: the choices.
#pragma once

#include <cstdint>
#include <string>

#include "comet/desc.hpp"
#include "comet/layer.hpp"
#include "comet/world.hpp"

namespace comet {

/// One layer where it runs. Of `desc`, the sizes, dtype and gate count; max_tokens is not read.
struct TuneCase {
  std::string model = "custom";  ///< For people; no part of what is compared.
  MoeDesc desc;
  ParallelDesc parallel;
  std::int64_t tokens = 0;  ///< Of all ranks together.
  Backend backend = Backend::cpu;
  LinkSpec link;             ///< With a rate, if it is paced.
  int workers = 1;           ///< Of a rank: threads, or multiprocessors on cuda.
  int ranks_per_device = 1;  ///< Ranks that share a GPU, or the processors of a host.
};

/// What is chosen for a case. 0 and -1 stand for a layer's own choice, as in ForwardOptions.
struct TuneConfig {
  std::int64_t block_m = 0;
  std::int64_t block_n = 0;
  std::int64_t groups = 1;
  std::int64_t panel = 0;
  std::int64_t chunk = 0;
  int n_c_dispatch = -1;
  int n_c_combine = -1;
  Placement placement = Placement::warps;
  std::int64_t waves = 0;

  bool operator==(const TuneConfig&) const = default;
};

/// Whether two cases are the same but for their tokens.
bool is_same_but_tokens(const TuneCase& a, const TuneCase& b);

/// Columns of the widest panel: all of them, in whole tiles of at most 256 columns.
std::int64_t widest_panel(const MoeDesc& desc);

/// For example "groups 4, panel 512, n_c 16/16 warps".
std::string to_string(const TuneConfig& config, Backend backend);

/// The options of a call by `schedule` that takes these choices.
ForwardOptions to_options(const TuneConfig& config, Schedule schedule);

/// The choices that options state; the tile is the layer's.
TuneConfig to_config(const ForwardOptions& options, std::int64_t block_m, std::int64_t block_n);

}  // namespace comet
