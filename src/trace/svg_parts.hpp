// SPDX-License-Identifier: Apache-2.0
// The few elements of SVG that a timeline is made of. Attributes instead of styles, and the fonts
// that are there: every viewer shows the same.
#pragma once

#include <string>
#include <string_view>

namespace comet {

struct SvgBox {
  double x = 0;
  double y = 0;
  double width = 0;
  double height = 0;
};

struct SvgTextStyle {
  double size = 12;  ///< Pixels.
  std::string_view colour = "#24292f";
  bool bold = false;
  std::string_view anchor = "start";  ///< Or "middle" or "end".
};

/// Collects elements, the later ones on top.
class SvgCanvas {
 public:
  /// `tooltip` is shown by browsers when the pointer rests on it; may be empty.
  void rect(const SvgBox& box, std::string_view fill, std::string_view tooltip = {});
  void vertical(double x, double y_begin, double y_end, double width, std::string_view stroke);
  /// `y` is the baseline. Escapes the text.
  void text(double x, double y, std::string_view text, const SvgTextStyle& style);
  /// What follows is moved down by `y`, until end_group.
  void begin_group(double y);
  void end_group();

  /// The whole document.
  std::string document(double width, double height) const;

 private:
  std::string body_;
};

/// About how wide a text is, for layout.
double text_width(std::string_view text, double size) noexcept;

}  // namespace comet
