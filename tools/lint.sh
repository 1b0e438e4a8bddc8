#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Lint: format, layers, names, registration, waits of kernels, headers that compile alone, clang-tidy. Configures a folder of
# its own (preset lint) for the compile commands and the generated headers.
#
#   tools/lint.sh                      everything
#   tools/lint.sh --fix-format         format all C++ files in place, nothing else
#   tools/lint.sh --changed <commit>   clang-tidy only on sources that differ from <commit>
set -euo pipefail
cd "$(dirname "$0")/.."
build_dir=build/lint
jobs="$(nproc)"

cpp_files() { git ls-files --cached --others --exclude-standard -- '*.hpp' '*.cpp' | existing; }
existing() { while read -r file; do [[ -f "$file" ]] && echo "$file"; done; }

base=""
case "${1:-}" in
  "") ;;
  --fix-format)
    cpp_files | xargs -r clang-format -i
    exit 0
    ;;
  --changed) base="${2:?lint: --changed needs a commit}" ;;
  *)
    echo "lint: unknown argument '$1': one of --fix-format, --changed <commit>" >&2
    exit 1
    ;;
esac

status=0
check() { # check <name> <command>...: runs it, remembers a failure, goes on.
  local name="$1" start="$SECONDS"
  shift
  if "$@"; then
    echo "lint: $name ok ($((SECONDS - start)) s)"
  else
    echo "lint: $name FAILED ($((SECONDS - start)) s)" >&2
    status=1
  fi
}

format_check() { cpp_files | xargs -r -n 20 -P "$jobs" clang-format --dry-run --Werror; }

# The sources of src/ that clang-tidy is to see. Merged sources, which include the .cpp files of a
# folder, take a quarter of the time: headers are parsed once for all. The .cpp files that no merged source
# includes, CUDA's above all, are merged here, beside the others, whose flags clang-tidy then takes.
# With --changed come the ones that differ, each alone.
tidy_sources() {
  if [[ -n "$base" ]]; then
    { git diff --name-only "$base"; git ls-files --others --exclude-standard; } |
      sed -n '/^src\/.*\.cpp$/p' | sort -u | existing
    return 0
  fi
  local merged rest
  merged="$(sed -n 's|^ *"file": "\(.*/Unity/.*\.cxx\)".*|\1|p' "$build_dir/compile_commands.json" |
    xargs grep -lF "#include \"$PWD/src/")"
  rest="$build_dir/src/CMakeFiles/comet.dir/Unity/rest.cxx"
  cpp_files | grep '^src/.*\.cpp$' |
    grep -vxFf <(sed -n "s|^#include \"$PWD/\(.*\)\"\$|\1|p" $merged) |
    sed "s|.*|#include \"$PWD/&\"|" >"$rest"
  echo "$rest" "$merged"
}

# clang-tidy 14 counts suppressed findings of system headers aloud; keep only what is ours.
tidy() {
  local log
  log="$(mktemp)"
  if tidy_sources | xargs -r -n 1 -P "$jobs" \
    clang-tidy --quiet -p "$build_dir" --extra-arg=-Wno-unknown-warning-option >"$log" 2>&1; then
    rm -f "$log"
    return 0
  fi
  grep -vE '^([0-9]+ warnings? (generated|treated)|[0-9]+ warnings? and)' "$log" | tail -n 100 >&2
  rm -f "$log"
  return 1
}

cmake --preset lint >/dev/null

check "format" format_check
check "layers" python3 tools/check_layers.py
check "names" python3 tools/check_names.py
check "registration" python3 tools/check_tests_registered.py
check "kernel waits" python3 tools/check_kernel_waits.py
check "public headers" python3 tools/check_headers.py --folder include -I "$build_dir/include"
check "own headers" python3 tools/check_headers.py --folder src --skip-proved -I include -I "$build_dir/include"
check "clang-tidy" tidy
exit "$status"
