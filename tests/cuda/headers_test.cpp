// SPDX-License-Identifier: Apache-2.0
// What a rank makes of the headers of others, and of memory that one has left who has died: words
// are written here as ranks write them.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/cuda/kernels/call_kernels.hpp"
#include "base/element.hpp"
#include "comet/error.hpp"
#include "cuda/gpu_test.hpp"
#include "cuda/managed.hpp"

namespace comet::cuda {
namespace {

constexpr std::int32_t kWorld = 2;
constexpr std::uint32_t kEpoch = 5;
constexpr std::int32_t kTokens[kWorld] = {3, 7};

constexpr LayerDims kDims{.world = kWorld,
                          .num_experts = 4,
                          .num_local = 2,
                          .topk = 2,
                          .hidden = 64,
                          .inter_local = 64,
                          .max_tokens = 70'000,  // whose ids several blocks read
                          .element_bytes = 2,
                          .block_m = 64,
                          .block_n = 64,
                          .panel_n = 64};
constexpr std::int64_t kIdsStride = kDims.max_tokens * kDims.topk;

// What is read of a header: all before its sentence.
constexpr std::int64_t kHeaderBytes = offsetof(CallHeader, sentence);

float rounded(float value, DType dtype) {
  float memory = 0;
  store_element(&memory, 0, dtype, value);
  return load_element(&memory, 0, dtype);
}

// All that a call of rank 0 reads and writes here.
struct Memory {
  WorkspaceLayout layout = make_workspace_layout(workspace_sizes(kDims));
  Managed<std::byte> workspaces{static_cast<std::size_t>(kWorld * layout.bytes)};
  Managed<std::byte*> peers{kWorld};
  Managed<CallState> state{1};
  Managed<Tickets> tickets{1};
  Managed<SeenHeader> seen{kWorld};
  Managed<CallReport> report{1};
  Managed<std::int32_t> tokens{kWorld};
  Managed<std::uint16_t> ids{kWorld * kIdsStride};
  Managed<DevicePlanCounters> counters{1};
  Managed<std::uint32_t> words{5};
  Managed<unsigned long long> long_words{1 + 3 * kWorld};
  Managed<float> ns_per_byte{1};
  Managed<DeviceExpiry> expiries{kWorld};
};

CallParams params_in(const Memory& memory) {
  CallParams params;
  params.layout = memory.layout;
  params.dims = kDims;
  params.config.groups = 1;
  params.peers = memory.peers.data();
  params.state = memory.state.data();
  params.tickets = memory.tickets.data();
  params.seen = memory.seen.data();
  params.report = memory.report.data();
  params.tokens = memory.tokens.data();
  params.ids = memory.ids.data();
  params.ids_stride = kIdsStride;
  params.plan.counters = memory.counters.data();
  DeviceWorld& world = params.world;
  world.size = kWorld;
  world.timeout_ns = 20'000'000;
  world.epoch = memory.words.data();
  world.busy = memory.words.data() + 1;
  world.failed_seen = memory.words.data() + 2;
  world.failed = memory.words.data() + 3;
  world.claim = memory.words.data() + 4;
  world.next_look = memory.long_words.data();
  world.clocks = memory.long_words.data() + 1;
  world.progress = memory.long_words.data() + 1 + 2 * kWorld;
  world.ns_per_byte = memory.ns_per_byte.data();
  world.expiries = memory.expiries.data();
  return params;
}

// Rank 0 of two; both have published call kEpoch.
class Headers : public testing::Test {
 protected:
  void SetUp() override {
    COMET_NEEDS_GPU();
    memory_ = std::make_unique<Memory>();
    params_ = params_in(*memory_);
    params_.state->epoch = kEpoch;
    for (std::int32_t rank = 0; rank < kWorld; ++rank) {
      memory_->peers.data()[rank] = memory_->workspaces.data() + rank * memory_->layout.bytes;
      published()[rank] = kEpoch;
      CallHeader& own = *header(rank);
      own.epoch = kEpoch;
      own.tokens = kTokens[rank];
      own.config_hash = 77;
    }
  }

  std::uint32_t* published() const {
    return reinterpret_cast<std::uint32_t*>(params_.peers[0] + params_.layout.published);
  }
  // Of each source, at `rank`.
  std::uint32_t* copied(std::int32_t rank) const {
    return reinterpret_cast<std::uint32_t*>(params_.peers[rank] + params_.layout.copied);
  }
  CallHeader* header(std::int32_t rank) const {
    return reinterpret_cast<CallHeader*>(params_.peers[rank] + params_.layout.header[kEpoch & 1U]);
  }

  // As other data lies where rank 1 had its header of this call.
  void leave_memory_of_rank_1() const {
    std::memset(static_cast<void*>(header(1)), 0x5a, sizeof(CallHeader));
  }

  void read_headers() const {
    launch_read_headers(params_, nullptr);
    check_cuda(cudaDeviceSynchronize(), "reading headers");
  }

  // Rank 0 publishes `ids`, whose weights are their places; of a world of `size` ranks.
  void publish(std::int32_t size, const std::vector<std::int32_t>& ids, int num_blocks,
               DType weight_type) {
    const auto count = static_cast<std::int64_t>(ids.size());
    const Managed<std::int32_t> topk_ids(ids.size());
    const Managed<float> weights(ids.size());
    for (std::int64_t i = 0; i < count; ++i) {
      topk_ids.data()[i] = ids[static_cast<std::size_t>(i)];
      store_element(weights.data(), i, weight_type, static_cast<float>(i));
    }
    params_.world.size = size;
    *params_.world.epoch = kEpoch - 1;
    params_.state->epoch = kEpoch - 1;
    params_.state->abandoned = 1;  // of the call before
    params_.state->own_fault = 1;
    params_.tickets[0] = {1, 1, 1, 1};
    params_.tokens[0] = -1;
    params_.copies_x = false;
    params_.topk_ids = topk_ids.data();
    params_.topk_weights = weights.data();
    params_.weight_type = weight_type;
    params_.max_call_tokens = static_cast<std::int32_t>(count / kDims.topk);
    launch_publish(params_, {}, num_blocks, nullptr);
    check_cuda(cudaDeviceSynchronize(), "publishing");
  }

  void copy_tokens() const {
    launch_copy_tokens(params_, 1, nullptr);
    check_cuda(cudaDeviceSynchronize(), "copying tokens");
  }

  std::unique_ptr<Memory> memory_;
  CallParams params_;
};

TEST_F(Headers, SayTheTokensThatRanksHavePublished) {
  read_headers();
  EXPECT_EQ(params_.state->abandoned, 0U);
  EXPECT_EQ(params_.state->fault.kind, CallFaultKind::none);
  EXPECT_EQ(params_.tokens[0], kTokens[0]);
  EXPECT_EQ(params_.tokens[1], kTokens[1]);
}

TEST_F(Headers, AreWhatARankHasPublished) {
  for (const std::int32_t size : {1, 2}) {
    for (const int num_blocks : {1, 3}) {
      for (const auto& [tokens, weight_type] : {std::pair{0, DType::f32},
                                                {1, DType::bf16},
                                                {698, DType::f32},
                                                {699, DType::bf16},
                                                {700, DType::f16}}) {
        std::vector<std::int32_t> ids;
        for (std::int32_t i = 0; i < tokens * kDims.topk; ++i) ids.push_back(i % 5 - 1);
        *header(0) = {};
        *params_.world.busy = 0;
        params_.state->bad_index = kNoBadIndex;
        publish(size, ids, num_blocks, weight_type);
        EXPECT_EQ(header(0)->epoch, kEpoch);
        EXPECT_EQ(header(0)->tokens, tokens);
        EXPECT_EQ(header(0)->fault, 0);
        EXPECT_EQ(params_.state->epoch, kEpoch);
        EXPECT_EQ(params_.state->abandoned, 0U);
        EXPECT_EQ(params_.state->own_tokens, tokens);
        EXPECT_EQ(params_.state->own_fault, 0);
        EXPECT_EQ(params_.state->done_blocks, 0U);
        EXPECT_EQ(*params_.world.epoch, kEpoch);
        EXPECT_EQ(*params_.world.busy, 1U);
        const auto* weights =
            reinterpret_cast<const float*>(params_.peers[0] + params_.layout.weights[kEpoch & 1U]);
        for (std::int32_t i = 0; i < tokens * kDims.topk; ++i) {
          ASSERT_EQ(params_.ids[i], i % 5 == 0 ? kDroppedId : i % 5 - 1);
          ASSERT_EQ(weights[i], rounded(static_cast<float>(i), weight_type));
        }
        if (size > 1) continue;
        EXPECT_EQ(params_.tokens[0], tokens);
        EXPECT_EQ(params_.state->fault.kind, CallFaultKind::none);
        EXPECT_EQ(params_.tickets[0].push, 0U);
        EXPECT_EQ(params_.tickets[0].products, 0U);
      }
    }
  }
}

TEST_F(Headers, SayWhatIsWrongWithARanksInput) {
  for (const std::int32_t size : {1, 2}) {
    for (const bool is_overlap : {false, true}) {
      *params_.world.busy = is_overlap ? 1 : 0;
      params_.state->bad_index = kNoBadIndex;
      publish(size, {0, 1, is_overlap ? 2 : kDims.num_experts, 3}, 1, DType::f32);
      const auto code = 1 + static_cast<std::int32_t>(is_overlap ? ErrorCode::invalid_argument
                                                                 : ErrorCode::out_of_range);
      const InputFaultDetail detail = header(0)->detail;
      EXPECT_EQ(header(0)->tokens, 0);
      EXPECT_EQ(header(0)->fault, code);
      EXPECT_EQ(detail.kind, is_overlap ? InputFaultKind::overlap : InputFaultKind::bad_id);
      if (!is_overlap) {
        EXPECT_EQ(detail.a, 2);
        EXPECT_EQ(detail.b, kDims.num_experts);
      }
      EXPECT_EQ(params_.state->own_tokens, 0);
      EXPECT_EQ(params_.state->own_fault, code);
      if (size > 1) continue;
      EXPECT_EQ(params_.tokens[0], 0);
      EXPECT_EQ(params_.state->fault.kind, CallFaultKind::published);
      EXPECT_EQ(params_.state->fault.code, code);
      EXPECT_EQ(params_.state->fault.rank, 0);
      EXPECT_EQ(params_.state->fault.detail.kind, detail.kind);
    }
  }
}

TEST_F(Headers, ComeWithAllIdsOfOthers) {
  for (const std::int32_t tokens : {0, 1, 5, 4099, 69'991, 70'000}) {
    header(1)->tokens = tokens;
    auto* const ids =
        reinterpret_cast<std::uint16_t*>(params_.peers[1] + params_.layout.ids[kEpoch & 1U]);
    const std::int64_t count = std::int64_t{tokens} * kDims.topk;
    for (std::int64_t i = 0; i < count; ++i)
      ids[i] = static_cast<std::uint16_t>((i * 7 + tokens) % 60'000);
    params_.state->metadata_bytes_in = 0;
    read_headers();
    EXPECT_EQ(params_.tokens[1], tokens);
    EXPECT_EQ(params_.state->metadata_bytes_in, kHeaderBytes + count * 2);
    EXPECT_EQ(
        std::memcmp(memory_->ids.data() + kIdsStride, ids, static_cast<std::size_t>(count) * 2), 0)
        << tokens << " tokens";
  }
}

TEST_F(Headers, OfADeadRankAreNoFaultOfIts) {
  leave_memory_of_rank_1();
  *params_.world.failed = kHostFailed;  // as the host says once it knows that the rank is gone
  read_headers();
  EXPECT_EQ(params_.state->abandoned, 1U);
  EXPECT_EQ(params_.state->fault.kind, CallFaultKind::none);
  EXPECT_EQ(params_.tokens[0], 0);
  EXPECT_EQ(params_.tokens[1], 0);
  EXPECT_EQ(*params_.world.claim, 0U) << "somebody else has said why";
}

TEST_F(Headers, OfADeadRankThatNobodyMissesAreWaitedFor) {
  leave_memory_of_rank_1();
  read_headers();
  EXPECT_EQ(params_.state->abandoned, 1U);
  EXPECT_EQ(*params_.world.failed, 1U);  // 1 + rank 0
  EXPECT_EQ(params_.world.expiries[0].source, 1);
  EXPECT_EQ(params_.world.expiries[0].expected, kEpoch);
  EXPECT_EQ(params_.world.expiries[0].seen, 0x5a5a5a5aU);
}

TEST_F(Headers, OfARankThatHasDiedSinceHaveNoSentence) {
  for (const bool is_there : {true, false}) {
    params_.state->fault = {CallFaultKind::published, 1, 1, {}};
    params_.report->fault = {};
    std::strcpy(header(1)->sentence, "[x] it says so");
    if (!is_there) leave_memory_of_rank_1();
    launch_end_call(params_, 1, Follow::after_all, nullptr);
    check_cuda(cudaDeviceSynchronize(), "ending a call");
    EXPECT_EQ(params_.report->fault.kind, CallFaultKind::published);
    EXPECT_EQ(std::string(params_.report->sentence), is_there ? "[x] it says so" : "");
  }
}

TEST_F(Headers, WithoutAFaultPromiseTokens) {
  copied(0)[1] = kEpoch;
  copy_tokens();
  EXPECT_EQ(params_.state->abandoned, 0U);
  EXPECT_EQ(copied(1)[0], kEpoch);
  copied(0)[1] = kEpoch - 1;
  copy_tokens();
  EXPECT_EQ(params_.state->abandoned, 1U) << "waited for the tokens of rank 1";
  EXPECT_EQ(params_.world.expiries[0].source, 1);
}

TEST_F(Headers, WithAFaultPromiseNoTokens) {
  header(1)->fault = 1;
  copy_tokens();
  EXPECT_EQ(params_.state->abandoned, 0U) << "nothing to wait for";
  EXPECT_EQ(copied(1)[0], kEpoch);
  copied(1)[0] = kEpoch - 1;
  params_.state->own_fault = 1;
  copy_tokens();
  EXPECT_EQ(params_.state->abandoned, 0U);
  EXPECT_EQ(copied(1)[0], kEpoch - 1) << "a call that overlaps another signals nothing";
}

}  // namespace
}  // namespace comet::cuda
