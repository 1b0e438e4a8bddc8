// SPDX-License-Identifier: Apache-2.0
#include "layer/backends.hpp"

#include "backend/cpu/tile_gemm.hpp"

namespace comet {

std::vector<BuildPart> describe_backends() {
  return {{"cpu", true, std::string("tiles on threads, GEMM by ") + gemm_library_name()},
          {"reference", true, "serial, double accumulation: the truth"},
          {"cuda", false, "not in this version: layers run on cpu"}};
}

std::vector<BuildPart> describe_worlds() {
  return {{"local", true, "ranks are threads of one process: --world local:<ranks>"},
          {"mpi", false, "not in this version: use local"},
          {"nvshmem", false, "not in this version: use local"}};
}

}  // namespace comet
