// SPDX-License-Identifier: Apache-2.0
// JSON from files that nobody vouches for: bounded nesting, no key twice, and every failure an
// Error that names the file.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace comet {

/// Parses a whole text. Throws Error(format) "[stage] source: ..." on bad JSON, a NUL byte (which
/// the parser would take for the end), a key twice in one object, or nesting beyond 32.
nlohmann::json parse_json(std::string_view text, std::string_view stage, const std::string& source);

/// `text` in single quotes for an error sentence: at most 100 bytes of it, control characters
/// shown as '?'.
std::string quote_text(std::string_view text);

/// What the parser says is wrong, and where, quoted as by quote_text.
std::string quote_fault(const nlohmann::json::exception& error);

}  // namespace comet
