// SPDX-License-Identifier: Apache-2.0
#include "world_part.hpp"

#include <utility>

#include "comet/mpi_world.hpp"

namespace comet::python {

WorldPart::WorldPart(std::vector<std::unique_ptr<World>> worlds)
    : worlds_(std::move(worlds)),
      workspaces_(worlds_.size()),
      threads_(static_cast<int>(worlds_.size())) {}

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
