// SPDX-License-Identifier: Apache-2.0
// Names of scorings and of synthetic routings, as the command line and bench files write them.
#include <cmath>
#include <cstddef>
#include <string_view>

#include "base/check.hpp"
#include "base/name_table.hpp"
#include "base/read_number.hpp"
#include "comet/router.hpp"

namespace comet {
namespace {

using Kind = SyntheticRouting::Kind;

constexpr NameTable<Scoring, 3> kScorings{{
    {Scoring::softmax, "softmax"},
    {Scoring::sigmoid, "sigmoid"},
    {Scoring::sparsemixer, "sparsemixer"},
}};

constexpr NameTable<Kind, 3> kPlainKinds{{
    {Kind::uniform, "uniform"},
    {Kind::hot, "hot"},
    {Kind::empty, "empty"},
}};

// Names that a parameter follows, after a colon.
constexpr NameTable<Kind, 2> kParameterKinds{{
    {Kind::spread, "std"},
    {Kind::zipf, "zipf"},
}};

}  // namespace

std::string_view to_string(Scoring scoring) noexcept { return name_of(kScorings, scoring); }

Scoring parse_scoring(std::string_view name) { return parse_name(kScorings, "scoring", name); }

SyntheticRouting parse_synthetic_routing(std::string_view text) {
  for (const auto& [kind, name] : kPlainKinds) {
    if (text == name) return {.kind = kind};
  }
  const std::size_t colon = text.find(':');
  const std::string_view stem = text.substr(0, colon);
  for (const auto& [kind, name] : kParameterKinds) {
    if (stem != name) continue;
    const std::string_view number =
        colon == std::string_view::npos ? std::string_view{} : text.substr(colon + 1);
    const double parameter = read_number<double>(number).value_or(-1);
    check(
        std::isfinite(parameter) && parameter >= 0, ErrorCode::invalid_argument,
        "[routing] parameter of '{}': '{}', allowed is a finite number of at least 0, as in {}:{}",
        name, number, name, kind == Kind::spread ? "0.03" : "1.2");
    return {.kind = kind, .parameter = parameter};
  }
  fail(ErrorCode::invalid_argument,
       "[routing] unknown synthetic routing '{}': one of uniform, std:<x>, zipf:<s>, hot, empty",
       text);
}

}  // namespace comet
