// SPDX-License-Identifier: Apache-2.0
#include "comm/plugin.hpp"

#include <dlfcn.h>

#include <filesystem>
#include <string_view>
#include <system_error>
#include <vector>

namespace comet {
namespace {

// Of the library or program that this code is in; empty if it cannot be told.
std::filesystem::path own_folder() {
  Dl_info own{};
  if (::dladdr(reinterpret_cast<const void*>(&own_folder), &own) == 0) return {};
  // A program's name is what it was started by, which may say nothing of where it lies.
  const bool is_path = std::string_view(own.dli_fname).find('/') != std::string_view::npos;
  std::error_code error;
  const auto path = std::filesystem::canonical(is_path ? own.dli_fname : "/proc/self/exe", error);
  return error ? std::filesystem::path() : path.parent_path();
}

// Beside it, as in a build; where an install has libraries; and the folder above, in which the
// Python package has its module, and the command in bin/.
std::vector<std::string> places_of(const char* name) {
  std::vector<std::string> paths;
  if (const std::filesystem::path folder = own_folder(); !folder.empty()) {
    for (const char* place : {".", "..", "../lib", "../../lib"}) {
      const std::filesystem::path path = folder / place / name;
      std::error_code error;
      if (std::filesystem::exists(path, error)) paths.push_back(path.string());
    }
  }
  paths.emplace_back(name);
  return paths;
}

}  // namespace

Plugin load_plugin(const char* name) {
  Plugin plugin{nullptr, "it was not found"};
  for (const std::string& path : places_of(name)) {
    plugin.handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (plugin.handle != nullptr) return {plugin.handle, {}};
    if (const char* text = ::dlerror(); text != nullptr && path != name) plugin.reason = text;
  }
  return plugin;
}

}  // namespace comet
