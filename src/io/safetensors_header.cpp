// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors_header.hpp"

#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/check.hpp"
#include "io/json.hpp"

namespace comet {
namespace {

using nlohmann::json;

constexpr std::string_view kMetadataKey = "__metadata__";

// Takes the parser's events. Where the text departs from
//   {name: {"dtype": string, "shape": [n, ...], "data_offsets": [begin, end]}, ...,
//    "__metadata__": {string: string, ...}}
// it throws at once.
class HeaderReader final : public nlohmann::json_sax<json> {
 public:
  explicit HeaderReader(const std::string& source) : source_(source) {}

  Header take() { return std::move(header_); }

  bool null() override { refuse_value("null"); }
  bool boolean(bool) override { refuse_value("a boolean"); }
  bool number_integer(number_integer_t) override { refuse_value("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    refuse_value("a number that is no integer below 2^63");
  }
  bool binary(binary_t&) override { refuse_value("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (where_ != Where::shape && where_ != Where::offsets) refuse_value("a number");
    if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      refuse_value("a number of 2^63 or more");
    }
    const std::size_t most = where_ == Where::shape ? kMaxTensorRank : 2;
    require(numbers_.size() < most, "has more than {} numbers in {}", most, key_);
    numbers_.push_back(static_cast<std::int64_t>(value));
    return true;
  }

  bool string(string_t& value) override {
    if (where_ == Where::metadata) {
      const bool is_new = header_.metadata.emplace(key_, value).second;
      check(is_new, ErrorCode::format, "[safetensors] {}: metadata key {} occurs twice", source_,
            quote_text(key_));
      return true;
    }
    if (where_ != Where::tensor || key_ != "dtype") refuse_value("a string");
    try {
      entry().type = parse_stored_type(value);
    } catch (const Error&) {
      require(false, "has the unknown dtype {}", quote_text(value));
    }
    return true;
  }

  bool start_object(std::size_t) override {
    switch (where_) {
      case Where::start:
        where_ = Where::top;
        return true;
      case Where::top:
        where_ = key_ == kMetadataKey ? Where::metadata : Where::tensor;
        if (where_ == Where::metadata) {
          check(!std::exchange(metadata_seen_, true), ErrorCode::format,
                "[safetensors] {}: {} occurs twice", source_, kMetadataKey);
        } else {
          header_.entries.push_back({.name = key_, .shape = {}});
          dtype_seen_ = shape_seen_ = offsets_seen_ = false;
        }
        return true;
      default:
        refuse_value("an object");
    }
  }

  bool key(string_t& value) override {
    key_ = value;
    if (where_ != Where::tensor) return true;
    bool* seen = value == "dtype"          ? &dtype_seen_
                 : value == "shape"        ? &shape_seen_
                 : value == "data_offsets" ? &offsets_seen_
                                           : nullptr;
    require(seen != nullptr, "has the unknown key {}", quote_text(value));
    require(!*seen, "has {} twice", value);
    *seen = true;
    return true;
  }

  bool end_object() override {
    if (where_ == Where::tensor) {
      require(dtype_seen_ && shape_seen_ && offsets_seen_,
              "lacks one of dtype, shape and data_offsets");
    }
    where_ = where_ == Where::top ? Where::end : Where::top;
    return true;
  }

  bool start_array(std::size_t) override {
    if (where_ != Where::tensor || key_ == "dtype") refuse_value("an array");
    where_ = key_ == "shape" ? Where::shape : Where::offsets;
    numbers_.clear();
    return true;
  }

  bool end_array() override {
    if (where_ == Where::shape) {
      entry().shape = numbers_;
    } else {
      require(numbers_.size() == 2, "needs two data_offsets and has {}", numbers_.size());
      entry().begin = numbers_[0];
      entry().end = numbers_[1];
    }
    where_ = Where::tensor;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const json::exception& error) override {
    fail(ErrorCode::format, "[safetensors] {}: the header is bad JSON: {}", source_,
         quote_fault(error));
  }

 private:
  enum class Where { start, top, metadata, tensor, shape, offsets, end };

  HeaderEntry& entry() { return header_.entries.back(); }

  // For what is wrong inside the current tensor.
  template <typename... Args>
  void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
    if (condition) return;
    fail(ErrorCode::format, "[safetensors] {}: tensor {} {}", source_, quote_text(entry().name),
         fmt::format(format, std::forward<Args>(args)...));
  }

  [[noreturn]] void refuse_value(std::string_view what) {
    const bool in_tensor =
        where_ == Where::tensor || where_ == Where::shape || where_ == Where::offsets;
    fail(ErrorCode::format, "[safetensors] {}: {}{}key {} must not have {}", source_,
         in_tensor ? "tensor " + quote_text(entry().name) : "", in_tensor ? ": " : "",
         quote_text(key_), what);
  }

  const std::string& source_;
  Header header_;
  Where where_ = Where::start;
  std::string key_;
  std::vector<std::int64_t> numbers_;
  bool metadata_seen_ = false;
  bool dtype_seen_ = false, shape_seen_ = false, offsets_seen_ = false;
};

}  // namespace

Header parse_header(std::string_view text, const std::string& source) {
  check(text.starts_with('{'), ErrorCode::format,
        "[safetensors] {}: the header does not begin with '{{'", source);
  // The parser takes a NUL for the end of the text and would ignore what follows.
  check(text.find('\0') == std::string_view::npos, ErrorCode::format,
        "[safetensors] {}: the header has a NUL byte", source);
  HeaderReader reader(source);
  json::sax_parse(text.begin(), text.end(), &reader);
  return reader.take();
}

TensorSize tensor_size(StoredType type, const std::vector<std::int64_t>& shape, ErrorCode code,
                       const std::string& context) {
  std::int64_t elements = 1;
  for (const std::int64_t dimension : shape) {
    check(dimension >= 0, code, "{} has the negative dimension {}", context, dimension);
    check(!__builtin_mul_overflow(elements, dimension, &elements), code,
          "{} has a shape whose product overflows 63 bits", context);
  }
  std::int64_t bits = 0;
  check(!__builtin_mul_overflow(elements, static_cast<std::int64_t>(bits_of(type)), &bits), code,
        "{} has a size in bits that overflows 63 bits", context);
  check(bits % 8 == 0, code, "{} has {} elements of {}, which do not fill whole bytes", context,
        elements, to_string(type));
  return {.elements = elements, .bytes = bits / 8};
}

}  // namespace comet
