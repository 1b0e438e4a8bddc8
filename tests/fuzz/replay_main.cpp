// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz harness without a fuzzer: once on the empty input, and once on each file below the
// folders named on the command line.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

void replay(const std::string& bytes) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
  replay("");
  int num_files = 0;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
      if (!entry.is_regular_file()) continue;
      std::ifstream file(entry.path(), std::ios::binary);
      replay(std::string(std::istreambuf_iterator<char>(file), {}));
      ++num_files;
    }
    if (num_files == 0) {
      std::fprintf(stderr, "no seed file below %s\n", argv[i]);
      return 1;
    }
  }
  std::printf("replayed %d seeds\n", num_files);
}
