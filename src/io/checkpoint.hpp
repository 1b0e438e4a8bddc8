// SPDX-License-Identifier: Apache-2.0
// A directory with one model: a single model.safetensors, or shards named by
// model.safetensors.index.json, which are opened when a tensor of theirs is first asked for.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.hpp"

namespace comet {

/// Parses an index file's weight_map: tensor name -> shard file. Throws Error(format) naming
/// `source` if a shard's name is not that of a file in the same directory (so no '/', no "..").
std::map<std::string, std::string, std::less<>> parse_weight_map(std::string_view text,
                                                                 const std::string& source);

/// Where the model in `directory` has its tensors: a single file, an index, and the shards that
/// this names; not all need exist. Throws Error(io) and Error(format) for an index that cannot be
/// used.
std::vector<std::filesystem::path> checkpoint_files(const std::filesystem::path& directory);

/// One model's tensors, wherever they lie. Used by one thread at a time.
class Checkpoint {
 public:
  /// Throws Error(io) if the directory has neither file or one cannot be read, Error(format) if it
  /// is damaged. With both files there, the index counts.
  static Checkpoint open(const std::filesystem::path& directory);

  /// The tensor, or null if the checkpoint has none of that name. May open a shard and throw as
  /// SafetensorsFile::open does; a shard that lacks a tensor promised by the index is an
  /// Error(format). The result lives as long as the Checkpoint.
  const StoredTensor* find(std::string_view name);
  /// The tensor; throws Error(format) naming the directory and the tensor if there is none.
  const StoredTensor& tensor(std::string_view name);
  /// Names of all tensors, ascending. Opens nothing.
  std::vector<std::string> names() const;
  const std::filesystem::path& directory() const noexcept { return directory_; }
  /// Shards that are open by now.
  std::size_t num_open() const noexcept { return files_.size(); }

 private:
  std::filesystem::path directory_;
  std::map<std::string, std::string, std::less<>> weight_map_;
  std::map<std::string, SafetensorsFile, std::less<>> files_;
};

}  // namespace comet
