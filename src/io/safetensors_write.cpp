// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/check.hpp"
#include "io/json.hpp"
#include "io/new_file.hpp"
#include "io/safetensors.hpp"
#include "io/safetensors_header.hpp"

namespace comet {
namespace {

std::string header_text(std::span<const TensorToWrite> tensors,
                        const std::map<std::string, std::string>& metadata) {
  using nlohmann::json;
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::int64_t position = 0;
  for (const TensorToWrite& tensor : tensors) {
    const std::string context = fmt::format("[safetensors] tensor {}", quote_text(tensor.name));
    const TensorSize size =
        tensor_size(tensor.type, tensor.shape, ErrorCode::invalid_argument, context);
    check(tensor.shape.size() <= kMaxTensorRank, ErrorCode::invalid_argument,
          "{} has {} dimensions, at most {}", context, tensor.shape.size(), kMaxTensorRank);
    check(tensor.data != nullptr || size.bytes == 0, ErrorCode::invalid_argument, "{} has no data",
          context);
    check(tensor.name != "__metadata__" && !header.contains(tensor.name),
          ErrorCode::invalid_argument, "{} occurs twice or has a reserved name", context);
    std::int64_t end = 0;
    check(!__builtin_add_overflow(position, size.bytes, &end), ErrorCode::invalid_argument,
          "[safetensors] the tensors' bytes overflow 63 bits");
    header[tensor.name] = {{"dtype", to_string(tensor.type)},
                           {"shape", tensor.shape},
                           {"data_offsets", {position, end}}};
    position = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception& error) {  // a name or value that is not UTF-8
    fail(ErrorCode::invalid_argument, "[safetensors] the names cannot be written as JSON: {}",
         quote_text(error.what()));
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data starts at a multiple of 8
  check(text.size() <= SafetensorsFile::kMaxHeaderBytes, ErrorCode::invalid_argument,
        "[safetensors] the header takes {} bytes, at most {}", text.size(),
        SafetensorsFile::kMaxHeaderBytes);
  return text;
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata) {
  // Wide elements first, so that every tensor of whole bytes is aligned to its element.
  std::vector<TensorToWrite> ordered(tensors.begin(), tensors.end());
  std::stable_sort(ordered.begin(), ordered.end(),
                   [](const TensorToWrite& a, const TensorToWrite& b) {
                     return bits_of(a.type) > bits_of(b.type);
                   });
  const std::string text = header_text(ordered, metadata);
  unsigned char length[8];
  for (std::size_t i = 0; i < 8; ++i) {
    length[i] = static_cast<unsigned char>(text.size() >> (8 * i));
  }
  NewFile file(path, "safetensors");
  file.append(length, sizeof(length));
  file.append(text.data(), text.size());
  for (const TensorToWrite& tensor : ordered) {
    const TensorSize size =
        tensor_size(tensor.type, tensor.shape, ErrorCode::internal, tensor.name);
    file.append(tensor.data, static_cast<std::size_t>(size.bytes));
  }
  file.commit();
}

}  // namespace comet
