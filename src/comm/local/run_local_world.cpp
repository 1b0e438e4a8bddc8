// SPDX-License-Identifier: Apache-2.0
// run_local_world: one thread per rank, all joined, the root error rethrown.
#include <exception>
#include <new>
#include <thread>

#include "base/check.hpp"
#include "comet/world.hpp"
#include "comm/world_view.hpp"

namespace comet {
namespace {

bool is_echo(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& e) {
    return e.code() == ErrorCode::peer;
  } catch (...) {
    return false;
  }
}

void report_sentence(const WorldView& view, const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const Error& error) {
    view.report_failure(error.code(),
                        fmt::format("[world] rank {} failed: {}", view.rank, error.what()));
  } catch (const std::exception& error) {
    view.report_failure(ErrorCode::internal,
                        fmt::format("[world] rank {} threw: {}", view.rank, error.what()));
  } catch (...) {
    view.report_failure(ErrorCode::internal,
                        fmt::format("[world] rank {} threw an unknown exception", view.rank));
  }
}

// Ends the waits of the other ranks, also where there is no memory for a sentence: then by one that
// a string holds in itself.
void report(const WorldView& view, const std::exception_ptr& exception) noexcept {
  try {
    report_sentence(view, exception);
  } catch (const std::bad_alloc&) {
    view.report_failure(ErrorCode::capacity, "[memory] none");
  }
}

// What the body threw, or null.
std::exception_ptr run_rank(World& world, const std::function<void(World&)>& body) {
  try {
    body(world);
    return nullptr;
  } catch (...) {
    const std::exception_ptr exception = std::current_exception();
    report(world.view(), exception);
    return exception;
  }
}

}  // namespace

void run_local_world(int size, const LocalWorldOptions& options,
                     const std::function<void(World&)>& body) {
  const std::vector<std::unique_ptr<World>> worlds = make_local_world(size, options);
  std::vector<std::exception_ptr> errors(worlds.size());
  std::exception_ptr start_error;
  std::vector<std::thread> threads;
  threads.reserve(worlds.size());
  try {
    for (std::size_t rank = 0; rank < worlds.size(); ++rank) {
      threads.emplace_back([&, rank] { errors[rank] = run_rank(*worlds[rank], body); });
    }
  } catch (...) {  // The system has no more threads; those that run must not wait for the rest.
    start_error = std::current_exception();
    report(worlds[threads.size()]->view(), start_error);
  }
  for (std::thread& thread : threads) thread.join();
  if (start_error) std::rethrow_exception(start_error);

  std::exception_ptr first;
  for (const std::exception_ptr& error : errors) {
    if (!error) continue;
    if (!is_echo(error)) std::rethrow_exception(error);
    if (!first) first = error;
  }
  if (first) std::rethrow_exception(first);
}

}  // namespace comet
