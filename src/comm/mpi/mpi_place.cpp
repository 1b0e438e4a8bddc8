// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "base/read_number.hpp"
#include "comet/mpi_world.hpp"

namespace comet {
namespace {

// A number from 0 on, or -1.
int number_in(const char* variable) noexcept {
  const char* const text = std::getenv(variable);
  return text != nullptr ? read_number<int>(text).value_or(-1) : -1;
}

std::optional<MpiPlace> place_in(const char* rank_variable, const char* size_variable,
                                 int fewest) noexcept {
  const MpiPlace place{number_in(rank_variable), number_in(size_variable)};
  if (place.rank < 0 || place.rank >= place.size || place.size < fewest) return std::nullopt;
  return place;
}

}  // namespace

std::optional<MpiPlace> find_mpi_place() noexcept {
  const auto place = place_in("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", 1);
  return place ? place : place_in("PMI_RANK", "PMI_SIZE", 2);
}

}  // namespace comet
