// SPDX-License-Identifier: Apache-2.0
// Claim: the grouped GEMM of the CPU backend (two GEMMs with fused activation, all experts, ragged
// rows) reaches at least 0.85 of the rate at which the library does the same products as large
// ones. `--check` asserts it, for each shape in the best of a few tries.
#include <benchmark/benchmark.h>
#include <fmt/core.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "bench/gemm_rates.hpp"
#include "comet/error.hpp"

namespace comet::bench {
namespace {

constexpr double kClaim = 0.85;
constexpr int kTries = 8;

// A quarter of the models' H and I, with enough tokens that an expert has about 4000 rows.
std::vector<GemmCase> cases() {
  std::vector<GemmCase> all;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const bool f32 = dtype == DType::f32;
    all.push_back(
        {f32 ? "mixtral/f32" : "mixtral/bf16",
         {.num_experts = 8, .topk = 2, .hidden = 1024, .intermediate = 3584, .dtype = dtype},
         16384});
    all.push_back(
        {f32 ? "phi/f32" : "phi/bf16",
         {.num_experts = 16, .topk = 2, .hidden = 1024, .intermediate = 1600, .dtype = dtype},
         32768});
  }
  return all;
}

void run_benchmark(benchmark::State& state, const GemmCase& c) {
  try {
    with_gemm_rates(c, [&](const std::function<GemmRates()>& measure) {
      GemmRates sum;
      for (auto _ : state) {
        const GemmRates rates = measure();
        state.SetIterationTime(rates.grouped_seconds);
        sum.grouped += rates.grouped;
        sum.library += rates.library;
      }
      const auto count = static_cast<double>(state.iterations());
      state.counters["GFLOP/s"] = sum.grouped / count;
      state.counters["library_GFLOP/s"] = sum.library / count;
      state.counters["ratio"] = sum.ratio();
    });
  } catch (const Error& error) {
    state.SkipWithError(error.what());
  }
}

// Exit code: 0 if the claim holds.
int check_claim() {
  bool holds = true;
  for (const GemmCase& c : cases()) {
    GemmRates best;
    try {
      with_gemm_rates(c, [&](const std::function<GemmRates()>& measure) {
        for (int i = 0; i < kTries && best.ratio() < kClaim; ++i) {
          const GemmRates rates = measure();
          if (rates.ratio() > best.ratio()) best = rates;
        }
      });
    } catch (const Error& error) {
      if (error.code() != ErrorCode::unsupported) throw;
      fmt::print("{:<14} skipped: {}\n", c.name, error.what());
      continue;
    }
    fmt::print("{:<14} {:6.1f} GFLOP/s, library {:6.1f}, ratio {:.3f}, at least {:.2f}: {}\n",
               c.name, best.grouped, best.library, best.ratio(), kClaim,
               best.ratio() >= kClaim ? "ok" : "FAILED");
    holds = holds && best.ratio() >= kClaim;
  }
  return holds ? 0 : 1;
}

}  // namespace
}  // namespace comet::bench

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--check") return comet::bench::check_claim();
  for (const comet::bench::GemmCase& c : comet::bench::cases()) {
    benchmark::RegisterBenchmark((std::string("grouped_gemm/") + c.name).c_str(),
                                 comet::bench::run_benchmark, c)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
