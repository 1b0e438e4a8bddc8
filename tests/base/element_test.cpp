// SPDX-License-Identifier: Apache-2.0
#include "base/element.hpp"

#include <gtest/gtest.h>

#include <array>
#include <type_traits>

namespace comet {
namespace {

TEST(Element, DispatchesToTheTypeOfEachDType) {
  const auto is = [](DType dtype) {
    return dispatch(dtype, []<typename T>() {
      return std::array{std::is_same_v<T, float>, std::is_same_v<T, bf16>, std::is_same_v<T, f16>};
    });
  };
  EXPECT_EQ(is(DType::f32), (std::array{true, false, false}));
  EXPECT_EQ(is(DType::bf16), (std::array{false, true, false}));
  EXPECT_EQ(is(DType::f16), (std::array{false, false, true}));
  EXPECT_THROW(is(static_cast<DType>(3)), Error);
}

TEST(Element, SizesAndEpsilonsAreOfTheType) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    dispatch(dtype, [&]<typename T>() {
      EXPECT_EQ(size_of(dtype), sizeof(T));
      const auto epsilon = static_cast<float>(epsilon_of(dtype));
      EXPECT_EQ(to_float(from_float<T>(1 + epsilon)), 1 + epsilon);
      EXPECT_EQ(to_float(from_float<T>(1 + epsilon / 2)), 1);
    });
  }
}

TEST(Element, LoadsWhatWasStoredAndTouchesNoNeighbour) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    SCOPED_TRACE(to_string(dtype));
    std::array<std::byte, 17> bytes{};
    void* const unaligned = bytes.data() + 1;
    for (int i = 0; i < 3; ++i) store_element(unaligned, i, dtype, 1.5F);
    store_element(unaligned, 1, dtype, -0.1F);
    EXPECT_EQ(load_element(unaligned, 0, dtype), 1.5F);
    EXPECT_NEAR(load_element(unaligned, 1, dtype), -0.1F, 0.1 * epsilon_of(dtype));
    EXPECT_EQ(load_element(unaligned, 2, dtype), 1.5F);
    EXPECT_EQ(bytes[0], std::byte{0});
    EXPECT_EQ(bytes[1 + 3 * size_of(dtype)], std::byte{0});
  }
}

}  // namespace
}  // namespace comet
