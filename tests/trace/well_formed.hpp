// SPDX-License-Identifier: Apache-2.0
// A reader of the XML that Comet writes: just enough to say whether it is well-formed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace comet {

class XmlReader {
 public:
  explicit XmlReader(std::string_view text) : rest_(text) {}

  /// What is wrong and where it stands; empty if nothing is.
  std::string fault() {
    if (rest_.starts_with("<?xml ")) rest_.remove_prefix(rest_.find("?>") + 2);
    bool had_root = false;
    while (!rest_.empty()) {
      if (rest_.front() != '<') {
        const std::string_view data = rest_.substr(0, rest_.find('<'));
        const bool blank = data.find_first_not_of(" \n\r\t") == std::string_view::npos;
        if (open_.empty() && !blank) return "text outside of the root: " + around();
        if (!is_text(data)) return "bad character data: " + around();
        rest_.remove_prefix(data.size());
        continue;
      }
      if (open_.empty() && had_root) return "a second root: " + around();
      had_root = true;
      if (!tag()) return "bad tag: " + around();
    }
    if (!had_root) return "no root";
    return open_.empty() ? "" : "never closed: " + open_.back();
  }

 private:
  bool tag() {
    rest_.remove_prefix(1);
    const bool closes = skip("/");
    const std::string name(word());
    if (name.empty()) return false;
    if (closes) {
      if (open_.empty() || open_.back() != name || !skip(">")) return false;
      open_.pop_back();
      return true;
    }
    std::vector<std::string> seen;
    while (skip(" ")) {
      const std::string attribute(word());
      for (const std::string& other : seen) {
        if (other == attribute) return false;
      }
      seen.push_back(attribute);
      if (attribute.empty() || !skip("=\"")) return false;
      const std::size_t end = rest_.find('"');
      if (end == std::string_view::npos || !is_text(rest_.substr(0, end))) return false;
      rest_.remove_prefix(end + 1);
    }
    if (skip("/>")) return true;
    open_.push_back(name);
    return skip(">");
  }
  bool skip(std::string_view what) {
    if (!rest_.starts_with(what)) return false;
    rest_.remove_prefix(what.size());
    return true;
  }
  std::string_view word() {
    const std::size_t end = rest_.find_first_not_of(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_:");
    const std::string_view name = rest_.substr(0, end);
    rest_.remove_prefix(name.size());
    return name;
  }
  static bool is_text(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
      const auto c = static_cast<unsigned char>(text[i]);
      if (c == '<' || (c < 0x20 && c != '\n' && c != '\t' && c != '\r')) return false;
      if (c != '&') continue;
      bool known = false;
      for (const std::string_view entity : {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"}) {
        known = known || text.substr(i).starts_with(entity);
      }
      if (!known) return false;
    }
    return true;
  }
  std::string around() const { return std::string(rest_.substr(0, 60)); }

  std::string_view rest_;
  std::vector<std::string> open_;
};

}  // namespace comet
