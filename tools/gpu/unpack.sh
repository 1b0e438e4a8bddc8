# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced by what runs from the folder that pack_suite.sh makes.

# unpack_suite <folder>: goes to a temporary copy of it with nothing compressed, removed at exit, and sets
# what its programs need to start. Expects a function `die`.
unpack_suite() {
  unpacked="$(mktemp -d)" || die "cannot make a temporary folder"
  trap 'rm -rf "$unpacked"' EXIT
  cp -r "$1/." "$unpacked" || die "cannot copy this folder to $unpacked"
  cd "$unpacked" || exit 1
  find . -name '*.gz' -exec gzip -d {} + || die "cannot unpack this folder to $unpacked"
  export LD_LIBRARY_PATH="$PWD/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  export PATH="$PATH:/usr/local/cuda/bin"
}

# find_nvshmem: NVSHMEM_HOME, where the Python package has NVSHMEM, unless it is set.
find_nvshmem() {
  local find='import nvidia.nvshmem as n; print(list(n.__path__)[0])'
  export NVSHMEM_HOME="${NVSHMEM_HOME:-$(python3 -c "$find" 2>/dev/null)}"
}
