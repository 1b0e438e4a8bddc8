// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "comet/desc.hpp"
#include "comet/error.hpp"
#include "comet/layer.hpp"
#include "comet/trace.hpp"
#include "comet/weights.hpp"

namespace comet {
namespace {

// Every value has a name, and the name leads back to it.
template <typename E, typename Parse>
void expect_round_trip(int num_values, const Parse& parse) {
  for (int i = 0; i < num_values; ++i) {
    const auto value = static_cast<E>(i);
    EXPECT_NE(to_string(value), "?") << i;
    EXPECT_EQ(parse(to_string(value)), value);
  }
  EXPECT_EQ(to_string(static_cast<E>(num_values)), "?") << "a value without a test";
  EXPECT_THROW(parse("?"), Error);
}

TEST(Names, RoundTrip) {
  expect_round_trip<Activation>(3, parse_activation);
  expect_round_trip<WeightPosition>(2, parse_weight_position);
  expect_round_trip<GateLayout>(4, parse_gate_layout);
  expect_round_trip<Schedule>(4, parse_schedule);
  expect_round_trip<DType>(3, parse_dtype);
}

TEST(Names, OfErrorCodesAndTraceKinds) {
  for (int i = 0; i < 10; ++i) EXPECT_NE(to_string(static_cast<ErrorCode>(i)), "?");
  for (int i = 0; i < 12; ++i) EXPECT_NE(to_string(static_cast<TraceKind>(i)), "?");
}

TEST(Names, ErrorsListWhatIsAllowed) {
  try {
    parse_schedule("comic");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_STREQ(error.what(),
                 "[schedule] unknown name 'comic': one of reference, sequential, pipelined, comet");
  }
}

}  // namespace
}  // namespace comet
