// SPDX-License-Identifier: Apache-2.0
#include "io/checkpoint.hpp"

#include <set>

#include "base/check.hpp"
#include "io/json.hpp"
#include "io/text_file.hpp"

namespace comet {
namespace {

constexpr const char* kSingleName = "model.safetensors";
constexpr const char* kIndexName = "model.safetensors.index.json";
// Six times the index of the largest models (about 10 MB); parsed it takes a few times as much.
constexpr std::size_t kMaxIndexBytes = 64'000'000;

// A name that stays in the directory whatever the system takes for a separator.
bool is_plain_file_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         name.find_first_of("/\\:") == std::string_view::npos;
}

bool file_exists(const std::filesystem::path& path) {
  std::error_code error;
  const bool found = std::filesystem::exists(path, error);
  check(!error, ErrorCode::io, "[checkpoint] cannot look at '{}': {}", path.string(),
        error.message());
  return found;
}

}  // namespace

std::map<std::string, std::string, std::less<>> parse_weight_map(std::string_view text,
                                                                 const std::string& source) {
  const nlohmann::json index = parse_json(text, "checkpoint", source);
  const auto found = index.is_object() ? index.find("weight_map") : index.end();
  check(found != index.end() && found->is_object(), ErrorCode::format,
        "[checkpoint] {}: needs an object 'weight_map'", source);
  std::map<std::string, std::string, std::less<>> result;
  for (const auto& [name, shard] : found->items()) {
    check(shard.is_string(), ErrorCode::format,
          "[checkpoint] {}: the shard of tensor {} is not a string", source, quote_text(name));
    const auto& file_name = shard.get_ref<const std::string&>();
    check(is_plain_file_name(file_name) && file_name.find('\0') == std::string::npos,
          ErrorCode::format,
          "[checkpoint] {}: tensor {} lies in {}: only names of files in the same directory are "
          "allowed",
          source, quote_text(name), quote_text(file_name));
    result.emplace(name, file_name);
  }
  return result;
}

std::vector<std::filesystem::path> checkpoint_files(const std::filesystem::path& directory) {
  const std::filesystem::path index = directory / kIndexName;
  std::set<std::string> names = {kSingleName, kIndexName};
  if (file_exists(index)) {
    for (const auto& [tensor, shard] :
         parse_weight_map(read_text_file(index, kMaxIndexBytes), index.string())) {
      names.insert(shard);
    }
  }
  std::vector<std::filesystem::path> files;
  for (const std::string& name : names) files.push_back(directory / name);
  return files;
}

Checkpoint Checkpoint::open(const std::filesystem::path& directory) {
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  const std::filesystem::path index = directory / kIndexName;
  if (file_exists(index)) {
    checkpoint.weight_map_ =
        parse_weight_map(read_text_file(index, kMaxIndexBytes), index.string());
    return checkpoint;
  }
  const std::filesystem::path single = directory / kSingleName;
  check(file_exists(single), ErrorCode::io, "[checkpoint] '{}' has neither {} nor {}",
        directory.string(), kSingleName, kIndexName);
  SafetensorsFile file = SafetensorsFile::open(single);
  for (const StoredTensor& tensor : file.tensors()) {
    checkpoint.weight_map_.emplace(tensor.name, kSingleName);
  }
  checkpoint.files_.emplace(kSingleName, std::move(file));
  return checkpoint;
}

const StoredTensor* Checkpoint::find(std::string_view name) {
  const auto entry = weight_map_.find(name);
  if (entry == weight_map_.end()) return nullptr;
  auto file = files_.find(entry->second);
  if (file == files_.end()) {
    file = files_.emplace(entry->second, SafetensorsFile::open(directory_ / entry->second)).first;
  }
  const StoredTensor* tensor = file->second.find(name);
  check(tensor != nullptr, ErrorCode::format,
        "[checkpoint] {} lacks tensor {}, which {} says it has", file->second.source(),
        quote_text(name), kIndexName);
  return tensor;
}

const StoredTensor& Checkpoint::tensor(std::string_view name) {
  const StoredTensor* found = find(name);
  check(found != nullptr, ErrorCode::format, "[checkpoint] '{}' has no tensor {}",
        directory_.string(), quote_text(name));
  return *found;
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> result;
  result.reserve(weight_map_.size());
  for (const auto& entry : weight_map_) result.push_back(entry.first);
  return result;
}

}  // namespace comet
