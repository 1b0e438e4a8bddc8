// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <tuple>
#include <utility>

#include "base/check.hpp"
#include "io/json.hpp"
#include "io/safetensors_header.hpp"

namespace comet {

// A whole file, mapped read-only.
class SafetensorsFile::Mapping {
 public:
  explicit Mapping(const std::filesystem::path& path) {
    // O_NONBLOCK: a named pipe must be refused below, not waited for.
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    check(descriptor >= 0, ErrorCode::io, "[safetensors] cannot open '{}': {}", path.string(),
          std::strerror(errno));
    struct stat status = {};
    const bool regular = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
    bytes_ = regular ? static_cast<std::size_t>(status.st_size) : 0;
    int map_error = 0;
    if (bytes_ > 0) {
      void* mapped = ::mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, descriptor, 0);
      if (mapped == MAP_FAILED) {
        map_error = errno;
      } else {
        data_ = static_cast<const std::byte*>(mapped);
      }
    }
    ::close(descriptor);
    check(regular, ErrorCode::io, "[safetensors] cannot read '{}': it is not a regular file",
          path.string());
    check(map_error == 0, ErrorCode::io, "[safetensors] cannot map '{}': {}", path.string(),
          std::strerror(map_error));
  }
  ~Mapping() {
    if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), bytes_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  const std::byte* data() const noexcept { return data_; }
  std::size_t bytes() const noexcept { return bytes_; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

namespace {

constexpr std::size_t kLengthBytes = 8;

std::uint64_t read_little_endian(const std::byte* data) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    value |= std::to_integer<std::uint64_t>(data[i]) << (8 * i);
  }
  return value;
}

// Entries in the order of their data; each one starts where the one before ends, the last one ends
// with the data.
void check_offsets(std::vector<HeaderEntry>& entries, std::int64_t data_bytes,
                   const std::string& source) {
  std::sort(entries.begin(), entries.end(), [](const HeaderEntry& a, const HeaderEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  std::int64_t position = 0;
  for (const HeaderEntry& entry : entries) {
    check(entry.begin <= entry.end && entry.end <= data_bytes, ErrorCode::format,
          "[safetensors] {}: tensor {} has data_offsets [{}, {}], outside the {} bytes of data",
          source, quote_text(entry.name), entry.begin, entry.end, data_bytes);
    check(entry.begin == position, ErrorCode::format,
          "[safetensors] {}: tensor {} starts at byte {} of the data, but the one before ends at "
          "{}: {}",
          source, quote_text(entry.name), entry.begin, position,
          entry.begin < position ? "they overlap" : "there is a hole");
    position = entry.end;
  }
  check(position == data_bytes, ErrorCode::format,
        "[safetensors] {}: the tensors take {} bytes, but the file has {} bytes of data", source,
        position, data_bytes);
}

}  // namespace

SafetensorsFile::SafetensorsFile() = default;
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;
SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&&) noexcept = default;
SafetensorsFile::~SafetensorsFile() = default;

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile file;
  file.source_ = path.string();
  file.mapping_ = std::make_unique<Mapping>(path);
  file.read(file.mapping_->data(), file.mapping_->bytes());
  return file;
}

SafetensorsFile SafetensorsFile::parse(const void* data, std::size_t bytes, std::string source) {
  SafetensorsFile file;
  file.source_ = std::move(source);
  file.read(static_cast<const std::byte*>(data), bytes);
  return file;
}

void SafetensorsFile::read(const std::byte* data, std::size_t bytes) {
  check(bytes >= kLengthBytes, ErrorCode::format,
        "[safetensors] {}: {} bytes are too few for a header length, which takes 8", source_,
        bytes);
  const std::uint64_t header_bytes = read_little_endian(data);
  check(header_bytes <= kMaxHeaderBytes, ErrorCode::format,
        "[safetensors] {}: header length {}, at most {}", source_, header_bytes, kMaxHeaderBytes);
  check(header_bytes <= bytes - kLengthBytes, ErrorCode::format,
        "[safetensors] {}: header length {}, but only {} bytes follow: the file is cut off",
        source_, header_bytes, bytes - kLengthBytes);

  const auto* text = reinterpret_cast<const char*>(data + kLengthBytes);
  Header header = parse_header({text, static_cast<std::size_t>(header_bytes)}, source_);
  const std::byte* contents = data + kLengthBytes + header_bytes;
  check_offsets(header.entries, static_cast<std::int64_t>(bytes - kLengthBytes - header_bytes),
                source_);

  for (HeaderEntry& entry : header.entries) {
    const std::string context =
        fmt::format("[safetensors] {}: tensor {}", source_, quote_text(entry.name));
    const TensorSize size = tensor_size(entry.type, entry.shape, ErrorCode::format, context);
    check(size.bytes == entry.end - entry.begin, ErrorCode::format,
          "{} has data_offsets [{}, {}], but its shape and dtype {} take {} bytes", context,
          entry.begin, entry.end, to_string(entry.type), size.bytes);
    check(by_name_.emplace(entry.name, tensors_.size()).second, ErrorCode::format,
          "{} occurs twice", context);
    tensors_.push_back({.name = std::move(entry.name),
                        .type = entry.type,
                        .shape = std::move(entry.shape),
                        .num_elements = size.elements,
                        .data = contents + entry.begin,
                        .bytes = static_cast<std::size_t>(size.bytes)});
  }
  metadata_ = std::move(header.metadata);
}

const StoredTensor* SafetensorsFile::find(std::string_view name) const noexcept {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

const StoredTensor& SafetensorsFile::tensor(std::string_view name) const {
  const StoredTensor* found = find(name);
  check(found != nullptr, ErrorCode::format, "[safetensors] {} has no tensor {}", source_,
        quote_text(name));
  return *found;
}

}  // namespace comet
