// SPDX-License-Identifier: Apache-2.0
#include "trace/svg_parts.hpp"

#include <fmt/core.h>

#include <iterator>

#include "trace/escape.hpp"

namespace comet {
namespace {

// A tenth of a pixel is finer than screens, and short: files have thousands of numbers.
std::string number(double value) {
  std::string text = fmt::format("{:.1f}", value);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text == "-0" ? "0" : text;
}

}  // namespace

void SvgCanvas::rect(const SvgBox& box, std::string_view fill, std::string_view tooltip) {
  fmt::format_to(std::back_inserter(body_),
                 R"(<rect x="{}" y="{}" width="{}" height="{}" fill="{}")", number(box.x),
                 number(box.y), number(box.width), number(box.height), fill);
  if (tooltip.empty()) {
    body_ += "/>\n";
  } else {
    body_ += "><title>" + xml_escape(tooltip) + "</title></rect>\n";
  }
}

void SvgCanvas::vertical(double x, double y_begin, double y_end, double width,
                         std::string_view stroke) {
  fmt::format_to(std::back_inserter(body_),
                 R"(<line x1="{0}" x2="{0}" y1="{1}" y2="{2}" stroke="{3}" stroke-width="{4}"/>)",
                 number(x), number(y_begin), number(y_end), stroke, width);
  body_ += '\n';
}

void SvgCanvas::text(double x, double y, std::string_view text, const SvgTextStyle& style) {
  fmt::format_to(std::back_inserter(body_),
                 R"(<text x="{}" y="{}" font-size="{}" fill="{}"{}{}>{}</text>)", number(x),
                 number(y), style.size, style.colour, style.bold ? R"( font-weight="bold")" : "",
                 style.anchor == "start" ? "" : fmt::format(R"( text-anchor="{}")", style.anchor),
                 xml_escape(text));
  body_ += '\n';
}

void SvgCanvas::begin_group(double y) {
  fmt::format_to(std::back_inserter(body_), "<g transform=\"translate(0,{})\">\n", number(y));
}

void SvgCanvas::end_group() { body_ += "</g>\n"; }

std::string SvgCanvas::document(double width, double height) const {
  const std::string w = number(width), h = number(height);
  return fmt::format(
             "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" "
             "viewBox=\"0 0 {0} {1}\" font-family=\"Helvetica, Arial, 'DejaVu Sans', "
             "sans-serif\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"#ffffff\"/>\n",
             w, h) +
         body_ + "</svg>\n";
}

double text_width(std::string_view text, double size) noexcept {
  double width = 0;  // in ems of a wide font
  for (const char c : text) {
    if (c >= 'A' && c <= 'Z') {
      width += 0.74;
    } else {
      width += std::string_view(" ijltf.,:;'|").find(c) == std::string_view::npos ? 0.62 : 0.34;
    }
  }
  return size * width;
}

}  // namespace comet
