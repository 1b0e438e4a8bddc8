// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <string>

#include "comet/mpi_world.hpp"

namespace comet {
namespace {

// Sets these of the variables that mpirun sets, and takes all away at the end.
class MpiPlaceTest : public testing::Test {
 protected:
  static constexpr const char* kNames[] = {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                                           "PMI_RANK", "PMI_SIZE"};

  void SetUp() override { clear(); }
  void TearDown() override { clear(); }

  static void clear() {
    for (const char* name : kNames) ::unsetenv(name);
  }

  static std::optional<MpiPlace> place_with(const std::map<std::string, std::string>& variables) {
    clear();
    for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
    return find_mpi_place();
  }
};

TEST_F(MpiPlaceTest, IsWhatOpenMpiSays) {
  EXPECT_FALSE(place_with({}).has_value());
  const auto place = place_with({{"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "8"}});
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->rank, 3);
  EXPECT_EQ(place->size, 8);
  EXPECT_TRUE(place_with({{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "1"}}));
}

TEST_F(MpiPlaceTest, IsWhatPmiSaysOfSeveralProcesses) {
  const auto place = place_with({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}});
  ASSERT_TRUE(place.has_value());
  EXPECT_EQ(place->rank, 1);
  EXPECT_EQ(place->size, 2);
  EXPECT_FALSE(place_with({{"PMI_RANK", "0"}, {"PMI_SIZE", "1"}}).has_value());
}

TEST_F(MpiPlaceTest, IsNothingOfWhatMakesNoSense) {
  EXPECT_FALSE(place_with({{"OMPI_COMM_WORLD_SIZE", "4"}}).has_value());
  EXPECT_FALSE(place_with({{"PMI_RANK", "2"}, {"PMI_SIZE", "2"}}).has_value());
  EXPECT_FALSE(place_with({{"PMI_RANK", "-1"}, {"PMI_SIZE", "2"}}).has_value());
  EXPECT_FALSE(place_with({{"PMI_RANK", "0"}, {"PMI_SIZE", "2x"}}).has_value());
}

}  // namespace
}  // namespace comet
