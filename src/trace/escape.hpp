// SPDX-License-Identifier: Apache-2.0
// Any bytes as text of a JSON or XML file: what is not UTF-8 becomes U+FFFD.
#pragma once

#include <string>
#include <string_view>

namespace comet {

/// With its quotes.
std::string json_quote(std::string_view text);

/// For character data and for attributes in either quotes. Control characters, which XML has no way
/// to write, become blanks.
std::string xml_escape(std::string_view text);

}  // namespace comet
