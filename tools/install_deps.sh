#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian 12 packages that Comet needs, and only those that are missing. Once all are
# there it asks neither for root nor for the network, so `make build` can call it every time.
#
#   tools/install_deps.sh          what building and testing needs
#   tools/install_deps.sh --tools  also what lint, fuzz and docs need
set -euo pipefail

build_packages=(
  make git g++ cmake ninja-build
  libfmt-dev nlohmann-json3-dev libcli11-dev
  libdnnl-dev
  ocl-icd-opencl-dev # Debian's oneDNN has OpenCL in its CMake config, but not in its Depends
  libgtest-dev libbenchmark-dev
  python3 # the checks in tools/ are CTest tests; the C++ build itself needs no Python
)
tool_packages=(
  clang libclang-rt-14-dev clang-format clang-tidy doxygen
  libomp-14-dev # <omp.h> where clang looks for it
)

die() {
  echo "install_deps: $*" >&2
  exit 1
}

wanted=("${build_packages[@]}")
case "${1:-}" in
  "") ;;
  --tools) wanted+=("${tool_packages[@]}") ;;
  *) die "unknown argument '$1': only --tools is allowed" ;;
esac

if ! command -v dpkg-query >/dev/null; then
  die "this is no Debian system; install by hand what Debian calls: ${wanted[*]}"
fi

# A command that is there from elsewhere (a python3 of one's own, say) serves as well as Debian's.
have() {
  case "$1" in
    make | git | g++ | cmake | clang | clang-format | clang-tidy | doxygen)
      command -v "$1" >/dev/null && return 0 ;;
    ninja-build) command -v ninja >/dev/null && return 0 ;;
    python3) command -v python3 >/dev/null && return 0 ;;
  esac
  [[ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null)" == ii* ]]
}

missing=()
for package in "${wanted[@]}"; do
  have "$package" || missing+=("$package")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

as_root=()
if [[ "$(id -u)" -ne 0 ]]; then
  command -v sudo >/dev/null ||
    die "not root and no sudo here, so have root install these packages: ${missing[*]}"
  as_root=(sudo)
fi

echo "install_deps: installing ${missing[*]}"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
apt_get() {
  # The lock wait covers a machine that is updating itself in the background.
  if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -q -y -o DPkg::Lock::Timeout=120 "$@" </dev/null >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    die "'apt-get $1' failed (its last lines are above); wanted: ${missing[*]}"
  fi
}
apt_get update
apt_get install --no-install-recommends "${missing[@]}"
