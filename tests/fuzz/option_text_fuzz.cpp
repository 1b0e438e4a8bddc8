// SPDX-License-Identifier: Apache-2.0
// Any text as an option's value: refused with Error(invalid_argument), or it survives being printed
// and read again.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "comet/error.hpp"
#include "comet/router.hpp"
#include "comet/world.hpp"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

template <typename Body>
void allow_invalid_argument(const Body& body) {
  try {
    body();
  } catch (const comet::Error& error) {
    require(error.code() == comet::ErrorCode::invalid_argument);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  bool accepted = false;
  comet::LinkSpec link;
  allow_invalid_argument([&] {
    link = comet::parse_link(text);
    accepted = true;
  });
  if (accepted) {
    require(std::isfinite(link.gigabytes_per_second) && link.gigabytes_per_second >= 0);
    require(std::isfinite(link.auto_ratio) && link.auto_ratio >= 0);
    const comet::LinkSpec again = comet::parse_link(to_string(link));
    require(again.kind == link.kind && to_string(again) == to_string(link));
  }
  allow_invalid_argument([&] {
    const comet::SyntheticRouting kind = comet::parse_synthetic_routing(text);
    require(std::isfinite(kind.parameter));
  });
  return 0;
}
