// SPDX-License-Identifier: Apache-2.0
#include "io/json.hpp"

#include <set>
#include <vector>

#include "base/check.hpp"

namespace comet {
namespace {

// The DOM is built and freed without recursion; the bound keeps hostile nesting from taking dozens
// of bytes of memory per byte of text.
constexpr int kMaxDepth = 32;

}  // namespace

std::string quote_text(std::string_view text) {
  constexpr std::size_t kLongest = 100;
  std::string result = "'";
  for (const char c : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    result += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  result += text.size() > kLongest ? "...'" : "'";
  return result;
}

// Before that stands the parser's own name for the fault, "[json.exception.parse_error.101] ".
std::string quote_fault(const nlohmann::json::exception& error) {
  const std::string_view text = error.what();
  const std::size_t end = text.find("] ");
  return quote_text(text.substr(end == std::string_view::npos ? 0 : end + 2));
}

nlohmann::json parse_json(std::string_view text, std::string_view stage,
                          const std::string& source) {
  using nlohmann::json;
  check(text.find('\0') == std::string_view::npos, ErrorCode::format,
        "[{}] {}: the JSON text has a NUL byte", stage, source);
  std::vector<std::set<std::string, std::less<>>> keys;  // of every object that is open
  const auto guard = [&](int depth, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start || event == json::parse_event_t::array_start) {
      check(depth < kMaxDepth, ErrorCode::format, "[{}] {}: JSON nested deeper than {}", stage,
            source, kMaxDepth);
    }
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      check(keys.back().insert(key).second, ErrorCode::format, "[{}] {}: key {} occurs twice",
            stage, source, quote_text(key));
    }
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), guard);
  } catch (const json::exception& error) {
    fail(ErrorCode::format, "[{}] {}: bad JSON: {}", stage, source, quote_fault(error));
  }
}

}  // namespace comet
