// SPDX-License-Identifier: Apache-2.0
#include "comm/link_spec.hpp"

#include <optional>

#include "base/check.hpp"
#include "base/read_number.hpp"

namespace comet {
namespace {

constexpr std::string_view kNative = "native";
constexpr std::string_view kHost = "host";
constexpr std::string_view kPaced = "paced:";
constexpr std::string_view kAuto = "auto";
constexpr double kDefaultRatio = 0.6;

// 1 KB/s to 1 PB/s: nanoseconds of any transfer that fits in memory fit 63 bits.
constexpr double kSmallest = 1e-6;
constexpr double kLargest = 1e6;

bool is_in_range(double value) noexcept { return value >= kSmallest && value <= kLargest; }

// The whole of `text` as a number in range; no sign, no blanks, no "inf".
std::optional<double> parse_number(std::string_view text) {
  const std::optional<double> value = read_number<double>(text);
  return value && is_in_range(*value) ? value : std::nullopt;
}

std::optional<LinkSpec> parse_paced(std::string_view rest) {
  LinkSpec link;
  link.kind = LinkSpec::Kind::paced;
  if (!rest.starts_with(kAuto)) {
    const std::optional<double> rate = parse_number(rest);
    if (!rate) return std::nullopt;
    link.gigabytes_per_second = *rate;
    return link;
  }
  rest.remove_prefix(kAuto.size());
  link.auto_ratio = kDefaultRatio;
  if (rest.empty()) return link;
  if (rest.front() != ':') return std::nullopt;
  const std::optional<double> ratio = parse_number(rest.substr(1));
  if (!ratio) return std::nullopt;
  link.auto_ratio = *ratio;
  return link;
}

}  // namespace

LinkSpec parse_link(std::string_view text) {
  if (text == kNative) return LinkSpec{};
  if (text == kHost) return LinkSpec{.kind = LinkSpec::Kind::host};
  if (text.starts_with(kPaced)) {
    if (const auto link = parse_paced(text.substr(kPaced.size()))) return *link;
  }
  fail(ErrorCode::invalid_argument,
       "[link] unknown link '{}': native, host, paced:<GB/s> or paced:auto[:<ratio>], numbers from "
       "{} "
       "to {}",
       text, kSmallest, kLargest);
}

std::string to_string(const LinkSpec& link) {
  if (link.kind == LinkSpec::Kind::native) return std::string(kNative);
  if (link.kind == LinkSpec::Kind::host) return std::string(kHost);
  // Once a rate is measured it is what is in force.
  if (link.gigabytes_per_second > 0) return fmt::format("{}{}", kPaced, link.gigabytes_per_second);
  return fmt::format("{}{}:{}", kPaced, kAuto, link.auto_ratio);
}

void check_link(const LinkSpec& link, Backend backend) {
  check(link.kind != LinkSpec::Kind::host || backend == Backend::cuda, ErrorCode::invalid_argument,
        "[link] host: only between ranks on GPUs; on {} use native or paced:<GB/s>",
        to_string(backend));
  if (link.kind != LinkSpec::Kind::paced) return;
  const bool is_rate_wanted = link.gigabytes_per_second != 0 || link.auto_ratio == 0;
  check(!is_rate_wanted || is_in_range(link.gigabytes_per_second), ErrorCode::invalid_argument,
        "[link] rate of a paced link: {} GB/s, from {} to {}", link.gigabytes_per_second, kSmallest,
        kLargest);
  check(link.auto_ratio == 0 || is_in_range(link.auto_ratio), ErrorCode::invalid_argument,
        "[link] ratio of a paced link: {}, from {} to {}", link.auto_ratio, kSmallest, kLargest);
}

void check_process_link(const LinkSpec& link, const ProcessDevice* device) {
  if (link.kind == LinkSpec::Kind::native) return;
  check(device != nullptr && link.kind == LinkSpec::Kind::paced, ErrorCode::unsupported,
        "[world] link: {}, ranks that are processes have native links{}", to_string(link),
        device != nullptr ? " or paced ones" : " only");
  check_link(link, Backend::cuda);
  check(device->first_putting() < 0, ErrorCode::unsupported,
        "[world] link: {}, ranks that put to each other have native links only, and rank {} puts",
        to_string(link), device->first_putting());
}

bool is_same_link(const LinkSpec& a, const LinkSpec& b) noexcept {
  return a.kind == b.kind && a.gigabytes_per_second == b.gigabytes_per_second &&
         a.auto_ratio == b.auto_ratio;
}

double pacing_rate(const LinkSpec& link) noexcept {
  return link.kind == LinkSpec::Kind::paced ? link.gigabytes_per_second : 0;
}

}  // namespace comet
