// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "base/check.hpp"
#include "io/json.hpp"
#include "io/safetensors.hpp"
#include "io/safetensors_header.hpp"

namespace comet {
namespace {

// A file that becomes `path` by commit(), or vanishes.
class NewFile {
 public:
  explicit NewFile(const std::filesystem::path& path)
      : path_(path.string()), temporary_(fmt::format("{}.tmp.{}", path_, ::getpid())) {
    ::unlink(temporary_.c_str());  // left by a crash of an earlier process with our id
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    require(descriptor_ >= 0, "create", temporary_);
  }
  ~NewFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!committed_) ::unlink(temporary_.c_str());
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  void append(const void* data, std::size_t bytes) {
    // Linux writes at most 2 GiB at once; smaller pieces also keep page-cache bursts short.
    constexpr std::size_t kMostAtOnce = std::size_t{1} << 28;
    const char* position = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t written = ::write(descriptor_, position, std::min(bytes, kMostAtOnce));
      if (written < 0 && errno == EINTR) continue;
      require(written > 0, "write", temporary_);
      position += written;
      bytes -= static_cast<std::size_t>(written);
    }
  }

  void commit() {
    require(::fsync(descriptor_) == 0, "write", temporary_);
    const int closed = ::close(descriptor_);
    descriptor_ = -1;
    require(closed == 0, "close", temporary_);
    require(::rename(temporary_.c_str(), path_.c_str()) == 0, "rename onto", path_);
    committed_ = true;
    sync_directory();
  }

 private:
  // The file is complete by now. A directory that cannot be synced only means that a crash of the
  // machine may bring the old file back, so that is no error.
  void sync_directory() const noexcept {
    const std::string::size_type slash = path_.rfind('/');
    const std::string directory = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
    const int descriptor = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return;
    ::fsync(descriptor);
    ::close(descriptor);
  }

  static void require(bool success, const char* action, const std::string& name) {
    const int error = errno;
    check(success, ErrorCode::io, "[safetensors] cannot {} '{}': {}", action, name,
          std::strerror(error));
  }

  std::string path_, temporary_;
  int descriptor_ = -1;
  bool committed_ = false;
};

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
  NewFile file(path);
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
