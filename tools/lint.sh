#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Lint: format, layers, registration, headers that compile alone, clang-tidy. Needs a configured
# build folder (its compile commands and generated headers).
#
#   tools/lint.sh                      everything
#   tools/lint.sh --fix-format         format all C++ files in place, nothing else
#   tools/lint.sh --changed <commit>   clang-tidy only on sources that differ from <commit>
set -euo pipefail
cd "$(dirname "$0")/.."
build_dir="${BUILD_DIR:-build/cpu}"
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

tidy_sources() {
  if [[ -n "$base" ]]; then
    { git diff --name-only "$base"; git ls-files --others --exclude-standard; } |
      grep -E '^src/.*\.cpp$' | sort -u | existing
  else
    cpp_files | grep '^src/'
  fi | grep '\.cpp$'
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

if [[ ! -f "$build_dir/compile_commands.json" ]]; then
  echo "lint: no $build_dir/compile_commands.json; run 'cmake --preset cpu' first" >&2
  exit 1
fi

check "format" format_check
check "layers" python3 tools/check_layers.py
check "registration" python3 tools/check_tests_registered.py
check "public headers" python3 tools/check_headers.py --folder include -I "$build_dir/include"
check "own headers" python3 tools/check_headers.py --folder src --skip-proved -I include -I "$build_dir/include"
check "clang-tidy" tidy
exit "$status"
