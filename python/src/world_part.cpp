// SPDX-License-Identifier: Apache-2.0
#include "world_part.hpp"

#include <unistd.h>

#include <utility>

#include "comet/error.hpp"
#include "comet/mpi_world.hpp"

namespace comet::python {

WorldPart::Parts::Parts(std::vector<std::unique_ptr<World>> made)
    : worlds(std::move(made)),
      workspaces(worlds.size()),
      threads(static_cast<int>(worlds.size())) {}

WorldPart::WorldPart(std::vector<std::unique_ptr<World>> worlds)
    : maker_(::getpid()), parts_(std::make_unique<Parts>(std::move(worlds))) {}

WorldPart::~WorldPart() {
  if (!is_own()) static_cast<void>(parts_.release());
}

bool WorldPart::is_own() const noexcept { return ::getpid() == maker_; }

void WorldPart::require_own() const {
  if (is_own()) return;
  throw Error(ErrorCode::invalid_argument,
              "[world] this process was forked from the one that made the world: make a new one "
              "here");
}

std::shared_ptr<WorldPart> WorldPart::local(int ranks, const std::string& link,
                                            const std::string& backend,
                                            std::chrono::milliseconds timeout) {
  return std::make_shared<WorldPart>(
      make_local_world(ranks, {.link = parse_link(link),
                               .backend = parse_backend(backend),
                               .max_gpus = 1,  // where the tensors of calls lie
                               .timeout = timeout}));
}

Place WorldPart::place() const noexcept {
  return {first().backend() == Backend::cuda, first().device()};
}

std::shared_ptr<WorldPart> WorldPart::mpi(std::chrono::milliseconds timeout) {
  std::vector<std::unique_ptr<World>> worlds;
  worlds.push_back(make_mpi_world(timeout));
  return std::make_shared<WorldPart>(std::move(worlds));
}

std::shared_ptr<WorldPart> WorldPart::processes(const ProcessStart& start,
                                                const std::string& backend,
                                                std::chrono::milliseconds timeout) {
  std::vector<std::unique_ptr<World>> worlds;
  worlds.push_back(make_process_world(start, timeout, parse_backend(backend)));
  return std::make_shared<WorldPart>(std::move(worlds));
}

void WorldPart::recover() {
  run([this](int index) { world(index).recover(); });
}

void WorldPart::barrier() {
  run([this](int index) { world(index).barrier(); });
}

}  // namespace comet::python
