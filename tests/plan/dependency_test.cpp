// SPDX-License-Identifier: Apache-2.0
#include "plan/dependency.hpp"

#include <gtest/gtest.h>

namespace comet {
namespace {

TEST(Dependency, BothStagesAndTheirBackwardTwins) {
  EXPECT_EQ(kDispatchGemm, (Decomposition{Axis::rows, WorkOrder::own_rank_first}));
  EXPECT_EQ(kGemmCombine, (Decomposition{Axis::columns, WorkOrder::panels_outermost}));
  EXPECT_EQ(kDispatchGradGemm, kDispatchGemm);
  EXPECT_EQ(kGradGemmCombine, kGemmCombine);
}

TEST(Dependency, RowsWinWhereBothAxesAreFree) {
  EXPECT_EQ(decompose({Readiness::by_arrival, AxisUse::independent, AxisUse::independent}).axis,
            Axis::rows);
}

TEST(Dependency, RefusesWhatCannotOverlap) {
  EXPECT_THROW(decompose({Readiness::by_computation, AxisUse::reduced, AxisUse::reduced}),
               std::logic_error);
  EXPECT_THROW(decompose({Readiness::by_arrival, AxisUse::reduced, AxisUse::independent}),
               std::logic_error);
}

}  // namespace
}  // namespace comet
