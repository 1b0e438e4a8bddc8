// SPDX-License-Identifier: Apache-2.0
// comet run on input that cannot be used: exit code 2, one sentence, and no output file touched.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "cli/run_comet.hpp"
#include "io/safetensors.hpp"
#include "io/temp_dir.hpp"

namespace comet::cli {
namespace {

namespace fs = std::filesystem;

Outcome run_on(const fs::path& directory, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"run", "--checkpoint", directory.string()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_comet(arguments);
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A copy of a good checkpoint, to be spoilt.
struct SpoiltCheckpoint {
  TempDir dir;
  SpoiltCheckpoint() {
    for (const char* name : {"config.json", "model.safetensors"}) {
      fs::copy_file(checkpoint("mixtral") / name, dir / name);
    }
  }
};

TEST(RunErrors, CheckpointCutShort) {
  const SpoiltCheckpoint spoilt;
  const auto size = fs::file_size(spoilt.dir / "model.safetensors");
  for (const auto kept :
       {size / 2, size - 1, std::uintmax_t{100}, std::uintmax_t{7}, std::uintmax_t{0}}) {
    fs::resize_file(spoilt.dir / "model.safetensors", kept);
    expect_refusal(run_on(spoilt.dir.path(), {"--tokens", "random:4"}), 2, "model.safetensors");
  }
}

TEST(RunErrors, HostileHeaders) {
  const SpoiltCheckpoint spoilt;
  const std::string huge(8, '\xff');
  const std::string not_json = std::string("\x05\0\0\0\0\0\0\0", 8) + "hello";
  const std::string nested = std::string("\x10\x27\0\0\0\0\0\0", 8) + std::string(10000, '[');
  for (const std::string& bytes : {huge, not_json, nested}) {
    spoilt.dir.write("model.safetensors", bytes);
    expect_refusal(run_on(spoilt.dir.path(), {"--tokens", "random:4"}), 2, "model.safetensors");
  }
}

TEST(RunErrors, BadConfig) {
  const SpoiltCheckpoint spoilt;
  for (const char* text : {"", "{", "[]", "{\"model_type\": \"gpt2\"}", "{\"model_type\": 3}"}) {
    spoilt.dir.write("config.json", text);
    expect_refusal(run_on(spoilt.dir.path(), {"--tokens", "random:4"}), 2, "config.json");
  }
}

TEST(RunErrors, MissingThings) {
  const TempDir empty;
  expect_refusal(run_on(empty.path(), {"--tokens", "random:4"}), 2, "config.json");
  expect_refusal(run_on("", {"--tokens", "random:4"}), 2, "--checkpoint: '', the name of a folder");
  expect_refusal(run_on(empty / "nowhere", {"--tokens", "random:4"}), 2, "nowhere");
  expect_refusal(run_on(checkpoint("mixtral"), {"--tokens", "nofile.safetensors"}), 2,
                 "nofile.safetensors");
  expect_refusal(run_on(checkpoint("mixtral"), {"--tokens", "random:4", "--layer", "2"}), 2,
                 "layer");
}

struct BadFlags {
  std::vector<std::string> arguments;
  const char* words;
};

TEST(RunErrors, ValuesThatDoNotFit) {
  const std::vector<BadFlags> table = {
      {{"--tokens", "random:x"}, "random:'x'"},
      {{"--tokens", "random:"}, "random:''"},
      {{"--tokens", "random:-1"}, "random:'-1'"},
      {{"--tokens", "random:99999999999"}, "random:'99999999999'"},
      {{"--tokens", "random:4", "--tp", "4"}, "intermediate"},
      {{"--tokens", "random:4", "--world", "local:4", "--ep", "3"}, "ep * tp"},
      {{"--tokens", "random:4", "--schedule", "fast"}, "unknown name 'fast'"},
      {{"--tokens", "random:4", "--dtype", "f64"}, "unknown name 'f64'"},
      {{"--tokens", "random:4", "--dtype", "f16"}, "layers on cpu run in f32 or bf16"},
      {{"--tokens", "random:4", "--backend", "cuda"}, "build with 'make cuda'"},
      {{"--tokens", "random:4", "--backend", "cuda", "--dtype", "f16", "--check"},
       "--check in f16"},
      {{"--tokens", "random:4", "--link", "host"}, "only between ranks on GPUs"},
      {{"--tokens", "random:4", "--link", "paced:0"}, "unknown link 'paced:0'"},
      {{"--tokens", "random:4", "--link", "paced:auto"}, "paced:<GB/s>"},
      {{"--tokens", "random:4", "--workers", "100000"}, "--workers: '100000'"},
      {{"--tokens", "random:4", "--out", "/nowhere/y.safetensors"}, "/nowhere/y.safetensors"},
      {{"--tokens", "random:4", "--out", ""}, "--out: '', the name of a file"},
      // A forgotten name would take the next flag, which then would not be obeyed.
      {{"--tokens", "random:4", "--out", "--check"}, "--out: '--check', the name of a file"},
      {{"--tokens", "x.safetensors", "--out", "./x.safetensors"}, "other than that of --tokens"},
      // Told before the checkpoint is read, which may take minutes.
      {{"--tokens", "random:4", "--layer", "99", "--out", "/nowhere/y"},
       "cannot create '/nowhere/y':"},
  };
  for (const BadFlags& bad : table) {
    expect_refusal(run_on(checkpoint("mixtral"), bad.arguments), 2, bad.words);
  }
}

// Stacks of 8 MiB each, for which there is no room: of ranks, and of a rank's workers.
TEST(RunErrors, NoRoomForThreads) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers reserve more memory than the limit leaves";
#endif
  const std::string comet = "ulimit -s 8192; ulimit -v 700000; exec '" + comet_path() + "' ";
  for (const std::string& command :
       {comet + "run --checkpoint '" + checkpoint("mixtral").string() +
            "' --tokens random:4 --world local:200",
        comet + "bench --experts 4 --topk 2 --hidden 16 --intermediate 32 --tokens 8 --ep 2 "
                "--workers 300 --rounds 1"}) {
    expect_refusal(run_program("/bin/sh", {"-c", command}), 2, "starts no more threads");
  }
}

TEST(RunErrors, TheCheckpointIsNotOverwritten) {
  const SpoiltCheckpoint own;
  const fs::path folder = own.dir.path();
  fs::create_directories(own.dir / "sub");
  fs::create_symlink(own.dir / "model.safetensors", own.dir / "link");
  for (const char* out : {"model.safetensors", "config.json", "sub/../config.json", "link"}) {
    const std::string before = read(own.dir / out);
    // Told before tokens are read.
    expect_refusal(run_on(folder, {"--tokens", "lost.safetensors", "--out", folder / out}), 2,
                   "a file other than that of --checkpoint");
    EXPECT_EQ(read(own.dir / out), before);
  }
  // A name that nothing has yet would be read from then on.
  expect_refusal(run_on(folder, {"--tokens", "random:4", "--out",
                                 (own.dir / "model.safetensors.index.json").string()}),
                 2, "a file other than that of --checkpoint");
  EXPECT_EQ(run_on(folder, {"--tokens", "random:4", "--out", folder / "y.safetensors"}).code, 0);
}

TEST(RunErrors, ShardsOfTheCheckpointAreNotOverwritten) {
  const SpoiltCheckpoint own;
  fs::rename(own.dir / "model.safetensors", own.dir / "a.safetensors");
  own.dir.write("model.safetensors.index.json",
                R"({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}})");
  const std::string before = read(own.dir / "a.safetensors");
  for (const char* out : {"a.safetensors", "b.safetensors", "model.safetensors.index.json"}) {
    expect_refusal(
        run_on(own.dir.path(), {"--tokens", "random:4", "--out", (own.dir / out).string()}), 2,
        "a file other than that of --checkpoint");
  }
  EXPECT_EQ(read(own.dir / "a.safetensors"), before);
}

// Tokens of 256 KiB each: no machine holds 16 million.
TEST(RunErrors, TokensThatNoMachineHolds) {
  const TempDir dir;
  dir.write("config.json",
            R"({"model_type": "mixtral", "hidden_size": 65536, "intermediate_size": 8,
                "num_hidden_layers": 1, "num_local_experts": 2, "num_experts_per_tok": 1,
                "hidden_act": "silu"})");
  constexpr std::int64_t kHidden = 65536, kInter = 8;
  const std::vector<float> values(2 * kHidden * kInter, 0.01F);
  const std::string block = "model.layers.0.block_sparse_moe.";
  std::vector<TensorToWrite> tensors = {
      {block + "gate.weight", StoredType::f32, {2, kHidden}, values.data()}};
  for (const char* expert : {"experts.0.", "experts.1."}) {
    for (const char* matrix : {"w1", "w2", "w3"}) {
      const bool is_down = matrix == std::string("w2");
      tensors.push_back({block + expert + matrix + ".weight", StoredType::f32,
                         is_down ? std::vector<std::int64_t>{kHidden, kInter}
                                 : std::vector<std::int64_t>{kInter, kHidden},
                         values.data()});
    }
  }
  write_safetensors(dir / "model.safetensors", tensors);
  EXPECT_EQ(run_on(dir.path(), {"--tokens", "random:4"}).code, 0);
  expect_refusal(run_on(dir.path(), {"--tokens", "random:16777216"}), 2,
                 "[memory] tokens, results and workspaces take 16");
}

TEST(RunErrors, TokensOfAnotherShapeOrType) {
  const TempDir dir;
  const std::vector<float> values(64, 1.0F);
  const auto write = [&](const char* name, StoredType type, std::vector<std::int64_t> shape) {
    const TensorToWrite tensor{name, type, std::move(shape), values.data()};
    write_safetensors(dir / "x", {&tensor, 1});
    return run_on(checkpoint("mixtral"), {"--tokens", (dir / "x").string()});
  };
  expect_refusal(write("x", StoredType::f32, {4, 16}), 2, "shape [4, 16], needs [tokens, 32]");
  expect_refusal(write("x", StoredType::f32, {64}), 2, "shape [64], needs [tokens, 32]");
  expect_refusal(write("x", StoredType::f32, {1, 2, 32}), 2, "needs [tokens, 32]");
  expect_refusal(write("x", StoredType::i32, {2, 32}), 2, "I32");
  expect_refusal(write("tokens", StoredType::f32, {2, 32}), 2, "x");
}

TEST(RunErrors, OneBadTokenStopsAllRanksAndKeepsTheOldFile) {
  const TempDir dir;
  std::vector<float> values(8 * 32, 1.0F);
  values[5 * 32 + 3] = std::nanf("");
  const TensorToWrite x{"x", StoredType::f32, {8, 32}, values.data()};
  write_safetensors(dir / "x", {&x, 1});
  dir.write("y", "as before");
  expect_refusal(run_on(checkpoint("mixtral"), {"--tokens", (dir / "x").string(), "--ep", "4",
                                                "--out", (dir / "y").string()}),
                 2, "token");
  EXPECT_EQ(read(dir / "y"), "as before");
}

// A block of tokens over a link of 10 KB/s takes 150 ms; nobody may wait longer than 20 ms.
TEST(RunErrors, AnExpiredWaitIsCodeThree) {
  const Outcome outcome =
      run_comet({"run", "--checkpoint", checkpoint("mixtral").string(), "--tokens", "random:64",
                 "--ep", "4", "--link", "paced:0.00001"},
                {.variables = {"COMET_TIMEOUT_MS=20"}});
  expect_refusal(outcome, 3, "rank");
}

}  // namespace
}  // namespace comet::cli
