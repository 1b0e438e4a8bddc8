// SPDX-License-Identifier: Apache-2.0
#include "tune/predict.hpp"

#include <algorithm>
#include <cmath>

#include "base/check.hpp"
#include "base/int_math.hpp"
#include "layout/band_walk.hpp"
#include "tune/group_model.hpp"
#include "tune/memory_reads.hpp"

namespace comet {
namespace {

// Microseconds that `bytes` take at `gbs`.
double copy_us(double bytes, double gbs) { return bytes / gbs * 1e-3; }

// How products run: alone, or beside communication.
struct ProductRates {
  double tflops = 1;
  double tile_us = 0;
  double cut_slowdown = 0;
};

// Bytes of the busiest rank.
struct CaseBytes {
  double rows = 0;
  double in = 0;
  double own = 0;
};

CaseBytes bytes_of(const TuneCase& of, const CaseLoad& load) {
  const auto element = static_cast<double>(size_of(of.desc.dtype));
  const double row = static_cast<double>(of.desc.hidden) * element;
  return {.rows = load.rows * row, .in = load.tokens_in * row, .own = load.own_tokens * row};
}

// Workers that a rank really has: threads beyond the processors only take turns.
double usable_workers(const MachineModel& machine, const TuneCase& of) {
  const double most =
      static_cast<double>(machine.workers) / static_cast<double>(of.ranks_per_device);
  return machine.workers_copy ? std::min(static_cast<double>(of.workers), most)
                              : static_cast<double>(of.workers);
}

// Half a wave is empty on average: the last one.
double product_us(const ProductLoad& load, const TuneCase& of, const ProductRates& rates,
                  double workers) {
  const bool is_cut = of.ranks_per_device > 1 && of.parallel.tp > 1;
  const double shared = 1 - 1 / static_cast<double>(of.parallel.tp);
  const double slowdown = is_cut ? 1 + rates.cut_slowdown * shared : 1;
  const double item_us = load.item_gmac * 2 * 1e-3 / rates.tflops * 1e6 * slowdown + rates.tile_us;
  return (load.items / workers + 0.5) * item_us;
}

StagePair products_us(const TuneCase& of, const CaseLoad& load, const ProductRates& rates,
                      double workers) {
  return {product_us(load.first, of, rates, workers), product_us(load.second, of, rates, workers)};
}

StagePair link_us(const MachineRates& rates, const TuneCase& of, const CaseBytes& bytes) {
  if (of.parallel.world_size() == 1) return {};
  switch (of.link.kind) {
    case LinkSpec::Kind::paced: {
      const double time = copy_us(bytes.in, of.link.gigabytes_per_second);
      return {time, time};
    }
    case LinkSpec::Kind::host:
      return {copy_us(bytes.in * of.ranks_per_device, rates.host_pull_gbs),
              copy_us(bytes.in * of.ranks_per_device, rates.host_push_gbs)};
    case LinkSpec::Kind::native:
      break;
  }
  if (of.ranks_per_device >= of.parallel.world_size()) return {};
  const double time = copy_us(bytes.in, rates.link_gbs);
  return {time, time};
}

// A rank has as large a part of its GPU's rates as it has of the multiprocessors. A processor's are
// a rank's own.
StagePair copies_us(const MachineModel& machine, const TuneCase& of, const CaseBytes& bytes) {
  const MachineRates& rates = machine.rates;
  const double part = machine.workers_copy ? 1 : static_cast<double>(of.workers) / machine.workers;
  return {copy_us(bytes.in, rates.pull_gbs * part) + copy_us(bytes.rows, rates.row_gbs * part),
          copy_us(bytes.rows, rates.sum_gbs * part) + copy_us(bytes.in, rates.push_gbs * part)};
}

// Copies of comet beside products, which blocks of their own may hold up, and what those blocks do
// not compute meanwhile.
struct Overlapped {
  StagePair compute;
  StagePair link;
};

Overlapped with_communication(const MachineModel& machine, const TuneCase& of,
                              const CaseBytes& bytes, const TuneConfig& config,
                              const StagePair& compute, const StagePair& link) {
  const MachineRates& rates = machine.rates;
  const StagePair copies = copies_us(machine, of, bytes);
  StagePair slow{copies.first * rates.overlap_pull, copies.second * rates.overlap_push};
  Overlapped result{.compute = compute, .link = {}};
  if (config.placement == Placement::blocks) {
    const double n_pull = std::max(1, config.n_c_dispatch);
    const double n_push = std::max(1, config.n_c_combine);
    slow.first =
        std::max(slow.first, copy_us(bytes.in + bytes.rows, rates.block_pull_gbs * n_pull));
    slow.second = std::max(slow.second, copy_us(bytes.rows, rates.block_sum_gbs * n_push));
    const auto lost = [&](double n) {
      return rates.block_idle * n / std::max(1.0, of.workers - n);
    };
    // They compute once no pull is left, and communicate again when the second product has begun.
    const double pulling = std::min(compute.first, std::max(link.first, slow.first));
    result.compute.first += pulling * lost(n_pull);
    result.compute.second *= 1 + lost(n_push);
  }
  result.link = {std::max(link.first, slow.first), std::max(link.second, slow.second)};
  return result;
}

constexpr std::int64_t kMostHostTileColumns = 256;

std::int64_t panel_of(const TuneCase& of, const TuneConfig& config) {
  const std::int64_t wished = config.panel > 0 ? config.panel : ceil_div(of.desc.hidden, 8);
  const std::int64_t step = of.backend == Backend::cuda ? kDeviceTileColumns : 16;
  return std::min(round_up(wished, step), of.desc.hidden);
}

// A CPU's tiles are as wide as its usual panels, but no wider than a block.
Panels cut_by(const TuneCase& of, const TuneConfig& config) {
  const std::int64_t panel = panel_of(of, config);
  return {of.desc.hidden, panel,
          of.backend == Backend::cuda ? kDeviceTileColumns
                                      : std::min(panel_of(of, {}), kMostHostTileColumns)};
}

// Of comet on a GPU: products with what they read from memory, and copies beside them.
Overlapped device_stages(const MachineModel& machine, const TuneCase& of, const CaseLoad& load,
                         const CaseBytes& bytes, const StagePair& products, const StagePair& link,
                         const TuneConfig& config) {
  const StagePair compute = comet_walk_us(machine.rates, of, load, products, config.groups,
                                          ceil_div(panel_of(of, config), kDeviceTileColumns));
  return with_communication(machine, of, bytes, config, compute, link);
}

// Of comet on a CPU, where copies are its workers' too.
Overlapped host_stages(const MachineModel& machine, const TuneCase& of, const CaseBytes& bytes,
                       const StagePair& products, const StagePair& link) {
  const MachineRates& rates = machine.rates;
  const StagePair copies = copies_us(machine, of, bytes);
  return {
      .compute = products + one_pass_us(rates, of) +
                 StagePair{copies.first * rates.overlap_pull, copies.second * rates.overlap_push},
      .link = link};
}

double comet_us(const MachineModel& machine, const TuneCase& of, const CaseLoad& load,
                const CaseBytes& bytes, const StagePair& link, const TuneConfig& config) {
  const MachineRates& rates = machine.rates;
  const bool is_device = !machine.workers_copy;
  const StagePair products = products_us(
      of, load, {rates.overlap_tflops, rates.overlap_tile_us, rates.overlap_cut_slowdown},
      usable_workers(machine, of));
  const Overlapped overlapped =
      is_device ? device_stages(machine, of, load, bytes, products, link, config)
                : host_stages(machine, of, bytes, products, link);
  const auto groups = static_cast<double>(config.groups);
  const auto local = static_cast<double>(ceil_div(of.desc.num_experts, of.parallel.ep));
  // Groups of tokens, on CPUs, each have half-empty last tiles of their own.
  const double padding =
      is_device ? 1 : 1 + (groups - 1) * local / 2 / std::max(1.0, load.row_tiles);
  // On GPUs a band of tiles waits for its rows together.
  const double slices =
      is_device
          ? std::ceil(load.row_tiles / groups / static_cast<double>(tiles_of_band(of.workers)))
          : load.row_tiles / local / groups;
  return predict_us({.compute = overlapped.compute,
                     .link = overlapped.link,
                     .world = of.parallel.world_size(),
                     .panels = cut_by(of, config),
                     .rows_per_token = is_device ? load.rows_per_token : 1},
                    {.groups = config.groups,
                     .tiles_per_expert = std::max(1.0, slices),
                     .padding = padding}) +
         rates.phase_us * groups + rates.tail_us;
}

// Of sequential: products, with the weights that they read.
StagePair sequential_us(const MachineModel& machine, const TuneCase& of, const CaseLoad& load) {
  const MachineRates& rates = machine.rates;
  const StagePair products =
      products_us(of, load, {rates.worker_tflops, rates.tile_us, rates.cut_slowdown},
                  usable_workers(machine, of));
  if (machine.workers_copy) return products + one_pass_us(rates, of);
  return sequential_walk_us(rates, of, load, products);
}

// What comes before the first row may be copied. GPUs copy tokens beside the plan, but for a rank
// alone, which reads them where they are; those that are too few for that take next to no time.
void add_start(const MachineModel& machine, const TuneCase& of, const CaseBytes& bytes,
               Prediction& result) {
  const MachineRates& rates = machine.rates;
  const double copy = copy_us(bytes.own, rates.publish_gbs);
  result.t_publish_us = rates.publish_us;
  result.t_plan_us =
      rates.plan_us + rates.plan_ns_per_token * 1e-3 * static_cast<double>(of.tokens);
  if (machine.workers_copy) {
    result.t_publish_us += copy;
  } else if (of.parallel.world_size() > 1) {
    result.t_plan_us = std::max(result.t_plan_us, copy);
  }
}

void check_predictable(const MachineModel& machine, const TuneCase& of, Schedule schedule,
                       const TuneConfig& config) {
  check(schedule == Schedule::sequential || schedule == Schedule::comet,
        ErrorCode::invalid_argument, "[predict] schedule {}: sequential or comet",
        to_string(schedule));
  check(machine.backend == of.backend, ErrorCode::invalid_argument,
        "[predict] machine {} is of backend {}, the case of {}", machine.name,
        to_string(machine.backend), to_string(of.backend));
  check(of.link.kind != LinkSpec::Kind::paced || of.link.gigabytes_per_second > 0,
        ErrorCode::invalid_argument, "[predict] link {}: a prediction needs the rate, paced:<GB/s>",
        to_string(of.link));
  check(of.workers >= 1 && of.ranks_per_device >= 1 && config.groups >= 1,
        ErrorCode::invalid_argument,
        "[predict] {} workers, {} ranks on a device, {} groups: at least 1 each", of.workers,
        of.ranks_per_device, config.groups);
}

}  // namespace

Prediction predict(const MachineModel& machine, const TuneCase& of, const CaseLoad& load,
                   Schedule schedule, const TuneConfig& config) {
  check_predictable(machine, of, schedule, config);
  const MachineRates& rates = machine.rates;
  const CaseBytes bytes = bytes_of(of, load);
  const StagePair compute = sequential_us(machine, of, load);
  const StagePair link = link_us(rates, of, bytes);
  Prediction result{.t_compute_us = compute.sum(), .t_link_us = link.sum()};
  add_start(machine, of, bytes, result);
  result.t_layer_us = result.t_plan_us + result.t_publish_us;
  if (schedule == Schedule::comet) {
    result.t_layer_us += comet_us(machine, of, load, bytes, link, config);
  } else {
    const StagePair copies = copies_us(machine, of, bytes);
    result.t_layer_us +=
        std::max(link.first, copies.first) + compute.sum() + std::max(link.second, copies.second);
  }
  return result;
}

Prediction predict(const MachineModel& machine, const TuneCase& of, Schedule schedule,
                   const TuneConfig& config) {
  return predict(machine, of, expect_load(of, config), schedule, config);
}

}  // namespace comet
