// SPDX-License-Identifier: Apache-2.0
#include "tune/memory_reads.hpp"

#include <algorithm>
#include <span>

#include "base/int_math.hpp"
#include "layout/band_walk.hpp"

namespace comet {
namespace {

// Microseconds that `bytes` take at `gbs`.
double read_us(double bytes, double gbs) { return bytes / gbs * 1e-3; }

double missed_by_cache(const MachineRates& rates, double bytes) {
  return std::min(1.0, bytes / (rates.cache_mb * 1e6));
}

double experts_of_rank(const TuneCase& of) {
  return static_cast<double>(ceil_div(of.desc.num_experts, of.parallel.ep));
}

double inter_of_rank(const TuneCase& of) {
  return static_cast<double>(of.desc.intermediate) / static_cast<double>(of.parallel.tp);
}

// Bytes of all ranks of a device, for each product.
StagePair weight_bytes(const TuneCase& of) {
  const double matrix = experts_of_rank(of) * static_cast<double>(of.desc.hidden) *
                        inter_of_rank(of) * static_cast<double>(size_of(of.desc.dtype)) *
                        of.ranks_per_device;
  return {matrix * (of.desc.gated ? 2 : 1), matrix};
}

double activation_bytes(const TuneCase& of, const CaseLoad& load) {
  return load.rows * inter_of_rank(of) * static_cast<double>(size_of(of.desc.dtype)) *
         of.ranks_per_device;
}

double second_columns(const TuneCase& of) {
  return static_cast<double>(ceil_div(of.desc.hidden, kDeviceTileColumns));
}

// Products hide a part of their reads, or reads of the products: of whichever is shorter. The part
// is one that serves eight ranks on a GPU as well as one rank on each of two; between 0.6 and 1
// choices are about as good.
double together(double product_us, double memory_us) {
  constexpr double kExposed = 0.75;
  return std::max(product_us, memory_us) + kExposed * std::min(product_us, memory_us);
}

// What one product of a rank reads, in microseconds.
struct Reads {
  double expert_us = 0;  // the weights of an expert
  double missed = 1;     // part of them that no cache has for the next band
  double others_us = 0;  // all else, for all row tiles
};

// Row tiles that go through all columns together.
struct Band {
  double parts = 0;          // of whole tiles
  double experts = 0;        // of which it is the first in its group
  double known_experts = 0;  // that the band before had too: 0 or 1
};

double band_us(const Band& band, double product_us, double all_parts, const Reads& reads) {
  const double share = band.parts / all_parts;
  return together(product_us * share,
                  reads.expert_us * (band.experts + reads.missed * band.known_experts) +
                      reads.others_us * share);
}

Band band_of(std::span<const RowTile> tiles, std::size_t begin, std::size_t end,
             std::size_t group_begin) {
  Band band;
  for (std::size_t i = begin; i < end; ++i) {
    band.parts += tiles[i].part;
    if (i == group_begin || tiles[i].expert != tiles[i - 1].expert) {
      band.experts += 1;
    } else if (i == begin) {
      band.known_experts = 1;
    }
  }
  return band;
}

StagePair walk_us(const TuneCase& of, const CaseLoad& load, const StagePair& products,
                  std::int64_t groups, const Reads& first, const Reads& second) {
  const auto height = static_cast<std::size_t>(tiles_of_band(of.workers));
  const auto num_tiles = static_cast<std::int32_t>(load.tiles.size());
  const auto phases = static_cast<std::int32_t>(groups);
  double parts = 0;
  for (const RowTile& tile : load.tiles) parts += tile.part;
  StagePair time;
  for (std::int32_t g = 0; g < phases; ++g) {
    const auto begin = static_cast<std::size_t>(phase_begin(num_tiles, phases, g));
    const auto end = static_cast<std::size_t>(phase_begin(num_tiles, phases, g + 1));
    for (std::size_t i = begin; i < end; i += height) {
      const Band band = band_of(load.tiles, i, std::min(end, i + height), begin);
      time.first += band_us(band, products.first, parts, first);
      time.second += band_us(band, products.second, parts, second);
    }
  }
  return time;
}

Reads weight_reads(const MachineRates& rates, const TuneCase& of, double all_bytes, double part) {
  const double expert = all_bytes / experts_of_rank(of);
  return {.expert_us = read_us(expert, rates.weight_gbs),
          .missed = missed_by_cache(rates, expert * part)};
}

// Which part of a device's ranks is in the second product at a time. With one group all are; with
// more they drift apart, and the cache is theirs that are in it.
double ranks_part(const StagePair& products, double groups) {
  return groups > 1 ? products.second / products.sum() : 1;
}

// All that comet's second product reads of the activations from memory.
double activations_us(const MachineRates& rates, const TuneCase& of, const CaseLoad& load,
                      const StagePair& products, double groups, double panel_columns) {
  const double all = activation_bytes(of, load);
  // What runs at once covers a panel, or more of them where a group has few tiles.
  const double at_once = std::max(panel_columns, of.workers * groups / load.row_tiles);
  const double missed = missed_by_cache(rates, all / groups * ranks_part(products, groups));
  return read_us(all * missed * second_columns(of) / at_once, rates.reread_gbs);
}

// Rows of comet's second product that no cache keeps until they are summed, a panel of a group
// later: they go to memory and back.
double sums_us(const MachineRates& rates, const TuneCase& of, const CaseLoad& load,
               const StagePair& products, double groups, double panel_columns) {
  const double all = load.rows * static_cast<double>(of.desc.hidden) *
                     static_cast<double>(size_of(of.desc.dtype)) * of.ranks_per_device;
  const double at_once =
      ranks_part(products, groups) * std::min(1.0, panel_columns / second_columns(of)) / groups;
  return read_us(2 * all * missed_by_cache(rates, all * at_once), rates.reread_gbs);
}

// What a row tile takes for each panel of comet's second product beside its items. By so much are
// panels of a single column tile slower than wider ones in sweeps (bench/results/tuner.jsonl).
double panels_us(const TuneCase& of, const CaseLoad& load, double panel_columns) {
  constexpr double kTileUs = 2;
  return kTileUs * load.row_tiles * second_columns(of) / panel_columns / of.workers;
}

}  // namespace

StagePair one_pass_us(const MachineRates& rates, const TuneCase& of) {
  const StagePair bytes = weight_bytes(of);
  return {read_us(bytes.first, rates.weight_gbs), read_us(bytes.second, rates.weight_gbs)};
}

StagePair sequential_walk_us(const MachineRates& rates, const TuneCase& of, const CaseLoad& load,
                             const StagePair& products) {
  const StagePair bytes = weight_bytes(of);
  return walk_us(of, load, products, 1, weight_reads(rates, of, bytes.first, 1),
                 weight_reads(rates, of, bytes.second, 1));
}

StagePair comet_walk_us(const MachineRates& rates, const TuneCase& of, const CaseLoad& load,
                        const StagePair& products, std::int64_t groups,
                        std::int64_t panel_columns) {
  const StagePair bytes = weight_bytes(of);
  const auto columns = static_cast<double>(panel_columns);
  Reads second = weight_reads(rates, of, bytes.second, std::min(1.0, columns / second_columns(of)));
  const auto cuts = static_cast<double>(groups);
  second.others_us = activations_us(rates, of, load, products, cuts, columns) +
                     sums_us(rates, of, load, products, cuts, columns);
  return walk_us(of, load, products, groups, weight_reads(rates, of, bytes.first, 1), second) +
         StagePair{0, panels_us(of, load, columns)};
}

}  // namespace comet
