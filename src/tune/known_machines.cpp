// SPDX-License-Identifier: Apache-2.0
// Constants of machines. docs/tuning.md says how each was found.
#include <algorithm>
#include <thread>

#include "tune/machine_model.hpp"

namespace comet {
namespace {

// What `comet tune --rows` finds in bench/results/h100.jsonl: 8 ranks share one GPU, so its copies
// share one memory.
MachineModel h100() {
  return {.name = "h100",
          .device = "NVIDIA H100 80GB HBM3",
          .source = "calibrated on rows of bench/results/h100.jsonl, 8 ranks on one GPU",
          .workers = 132,
          .rates = {.worker_tflops = 6.872,
                    .tile_us = 3.819,
                    .weight_gbs = 4666,
                    .cut_slowdown = 0.5239,
                    .overlap_tflops = 6.188,
                    .overlap_tile_us = 2.751,
                    .overlap_cut_slowdown = 0.09067,
                    .reread_gbs = 1925,
                    .cache_mb = 91.73,
                    .publish_us = 7.982,
                    .publish_gbs = 106.5,
                    .plan_us = 135.5,
                    .plan_ns_per_token = 1.385,
                    .phase_us = 5.427,
                    .tail_us = 66.21,
                    .pull_gbs = 3472,
                    .row_gbs = 5077,
                    .sum_gbs = 1643,
                    .push_gbs = 2076,
                    .overlap_pull = 1.258,
                    .overlap_push = 2.505,
                    .block_pull_gbs = 15.1,
                    .block_sum_gbs = 13.68,
                    .block_idle = 0.6571,
                    .link_gbs = 336,
                    .host_pull_gbs = 36.12,
                    .host_push_gbs = 25.58}};
}

// The same of rows of bench/node.sh: a GPU for each rank, joined by NVLink. Times of whole
// layers say little of what comes before the first row, so the search began with that as it was
// measured: 6.1 us to publish and 37 for the plan of 4096 tokens by the rows, 1900 GB/s for the
// copy of tokens by a trace; and with products beside copies near products alone (6.8 TFLOP/s of a
// multiprocessor and 4 us an item) and sums at 1500 GB/s: many combinations explain the rows that
// are fitted, and this one others and sweeps as well.
MachineModel h200() {
  return {.name = "h200",
          .device = "NVIDIA H200",
          .source = "calibrated on rows of bench/node.sh, commit 5facfba60af1, 2 ranks on two GPUs",
          .workers = 132,
          .rates = {.worker_tflops = 6.543,
                    .tile_us = 2.453,
                    .weight_gbs = 6670,
                    .cut_slowdown = 0.3,
                    .overlap_tflops = 6.8,
                    .overlap_tile_us = 5.373,
                    .overlap_cut_slowdown = 0.1,
                    .reread_gbs = 1.146e+04,
                    .cache_mb = 25.95,
                    .publish_us = 5.807,
                    .publish_gbs = 1900,
                    .plan_us = 23.38,
                    .plan_ns_per_token = 0.73,
                    .phase_us = 3.784,
                    .tail_us = 13.71,
                    .pull_gbs = 655.1,
                    .row_gbs = 5962,
                    .sum_gbs = 2015,
                    .push_gbs = 443.3,
                    .overlap_pull = 1.279,
                    .overlap_push = 0.6639,
                    .block_pull_gbs = 26,
                    .block_sum_gbs = 44.47,
                    .block_idle = 0.3825,
                    .link_gbs = 250.2,
                    .host_pull_gbs = 44.7,
                    .host_push_gbs = 26}};
}

// What is published of a GPU, to scale a measured one by.
struct Published {
  const char* name;
  const char* source;
  int workers;
  double dense_bf16_tflops;
  double memory_gbs;
  double cache_mb;
  double link_gbs;  ///< Usable in one direction, per GPU.
};

// Products scale by peak per multiprocessor, copies by memory, transfers by the link.
MachineModel scaled(const MachineModel& measured, double measured_tflops,
                    double measured_memory_gbs, const Published& to) {
  MachineModel machine = measured;
  machine.name = to.name;
  machine.device.clear();
  machine.source = to.source;
  machine.workers = to.workers;
  const double compute = to.dense_bf16_tflops / to.workers / (measured_tflops / measured.workers);
  const double memory = to.memory_gbs / measured_memory_gbs;
  MachineRates& rates = machine.rates;
  rates.worker_tflops *= compute;
  rates.overlap_tflops *= compute;
  for (double* rate :
       {&rates.weight_gbs, &rates.reread_gbs, &rates.publish_gbs, &rates.row_gbs, &rates.sum_gbs}) {
    *rate *= memory;
  }
  rates.cache_mb = to.cache_mb;
  rates.link_gbs = to.link_gbs;
  rates.pull_gbs = std::min(rates.pull_gbs, to.link_gbs);
  rates.push_gbs = std::min(rates.push_gbs, to.link_gbs);
  return machine;
}

constexpr double kH200Tflops = 989;
constexpr double kH200MemoryGbs = 4800;

MachineModel h800() {
  return scaled(
      h200(), kH200Tflops, kH200MemoryGbs,
      {.name = "h800",
       .source = "published rates: an H100 SXM's 989 TFLOP/s and 3350 GB/s, 132 "
                 "multiprocessors; NVLink of 400 GB/s both ways, 160 usable in one; scaled "
                 "from the measured h200",
       .workers = 132,
       .dense_bf16_tflops = 989,
       .memory_gbs = 3350,
       .cache_mb = 50,
       .link_gbs = 160});
}

MachineModel l20() {
  return scaled(
      h200(), kH200Tflops, kH200MemoryGbs,
      {.name = "l20",
       .source = "published rates: 119.5 TFLOP/s and 864 GB/s, 92 multiprocessors; about 25 "
                 "GB/s over PCIe from GPU to GPU (the COMET paper); scaled from the "
                 "measured h200, though kernels for this GPU do not exist",
       .workers = 92,
       .dense_bf16_tflops = 119.5,
       .memory_gbs = 864,
       .cache_mb = 96,
       .link_gbs = 25});
}

// Found by the rows of `comet bench --demo` on two cores with AVX-512, float32.
MachineModel any_cpu() {
  return {
      .name = "cpu",
      .source = "calibrated on float32 rows of two cores with AVX-512; other processors: a guess",
      .backend = Backend::cpu,
      .workers = static_cast<int>(std::max(1U, std::thread::hardware_concurrency())),
      .workers_copy = true,
      .rates = {.worker_tflops = 0.11,
                .tile_us = 4,
                .weight_gbs = 20,
                .cut_slowdown = 0.01,
                .overlap_tflops = 0.11,
                .overlap_tile_us = 4,
                .overlap_cut_slowdown = 0.01,
                .reread_gbs = 1000,
                .cache_mb = 30,
                .publish_us = 50,
                .publish_gbs = 2.6,
                .plan_us = 300,
                .plan_ns_per_token = 20,
                .phase_us = 100,
                .tail_us = 500,
                .pull_gbs = 1.4,
                .row_gbs = 2.4,
                .sum_gbs = 4,
                .push_gbs = 2,
                .overlap_pull = 1,
                .overlap_push = 1,
                .block_pull_gbs = 10,
                .block_sum_gbs = 10,
                .block_idle = 0.5,
                .link_gbs = 1000,
                .host_pull_gbs = 1,
                .host_push_gbs = 1}};
}

}  // namespace

std::span<const MachineModel> known_machines() {
  static const MachineModel machines[] = {h100(), h200(), any_cpu(), h800(), l20()};
  return machines;
}

}  // namespace comet
