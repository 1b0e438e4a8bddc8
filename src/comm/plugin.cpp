// SPDX-License-Identifier: Apache-2.0
#include "comm/plugin.hpp"

#include <dlfcn.h>

#include <filesystem>
#include <vector>

namespace comet {
namespace {

std::vector<std::string> places_of(const char* name) {
  std::vector<std::string> paths;
  Dl_info own{};
  if (::dladdr(reinterpret_cast<const void*>(&places_of), &own) != 0) {
    std::error_code none;
    const auto folder = std::filesystem::canonical(own.dli_fname, none).parent_path();
    for (const char* place : {".", "../lib", "../../lib"}) {
      paths.push_back((folder / place / name).string());
    }
  }
  paths.emplace_back(name);
  return paths;
}

}  // namespace

Plugin load_plugin(const char* name) {
  Plugin plugin{nullptr, "it was not found"};
  for (const std::string& path : places_of(name)) {
    if (path.find('/') != std::string::npos && !std::filesystem::exists(path)) continue;
    plugin.handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (plugin.handle != nullptr) return {plugin.handle, {}};
    if (const char* text = ::dlerror(); text != nullptr && path != name) plugin.reason = text;
  }
  return plugin;
}

}  // namespace comet
