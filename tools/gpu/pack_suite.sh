#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Packs what run_suite.sh, node.sh and run.sh need on a GPU machine without a build: GPU tests, GPU benchmarks, the
# command, the shared libraries that such a machine lacks, and the hashes of the sources that all were
# built from.
#
#   tools/gpu/pack_suite.sh [BUILD_DIR [FOLDER]]   default: build/cuda build/gpu-suite
set -euo pipefail
cd "$(dirname "$0")/../.."
build="${1:-build/cuda}"
folder="${2:-build/gpu-suite}"
limit_bytes=54000000
large_bytes=5000000 # of a file: packed, run_suite.sh unpacks it

die() {
  echo "pack_suite: $*" >&2
  exit 1
}

hashes="$(python3 tools/gpu/evidence.py)"
rm -rf "$folder"
mkdir -p "$folder"/{bin,tests,bench,experiments,node,lib,python}

binaries=()
mapfile -t tests < <(sed -nE 's/^comet_gpu_test\(([a-z_]+) .*/\1/p' tests/cuda/CMakeLists.txt)
[[ ${#tests[@]} -gt 0 ]] || die "no test in tests/cuda/CMakeLists.txt"
for test in "${tests[@]}"; do
  binary="$build/tests/cuda/$test"
  [[ -x "$binary" ]] || die "$binary is not there: run 'make cuda' first"
  cp "$binary" "$folder/tests/"
  binaries+=("$binary")
done
[[ -x "$build/comet" ]] || die "$build/comet is not there: run 'make cuda' first"
cp "$build/comet" "$folder/bin/"
binaries+=("$build/comet")
# Beside the command, where it looks; NVSHMEM itself is the machine's.
[[ -f "$build/libcomet_nvshmem.so" ]] || die "$build/libcomet_nvshmem.so is not there: run 'make cuda' where NVSHMEM is"
cp "$build/libcomet_nvshmem.so" "$folder/bin/"
# Where MPI is; it, too, is the machine's.
[[ ! -f "$build/libcomet_mpi.so" ]] || cp "$build/libcomet_mpi.so" "$folder/bin/"
for library in "$build"/bench/cuda/*.so; do
  [[ -f "$library" ]] || continue
  cp -L "$library" "$folder/bench/"
  binaries+=("$library")
done
for bench in bench/cuda/*.py; do
  [[ -f "$bench" ]] || continue
  cp "$bench" "$folder/bench/"
done
cp bench/python/mps.py "$folder/python/" # of process_worlds.py
cp bench/experiments/*.{py,json,txt} "$folder/experiments/"
cp bench/node/*.py "$folder/node/"
[[ -x "$build/bench/node/link_rates" ]] || die "$build/bench/node/link_rates is not there: run 'make cuda' first"
cp "$build/bench/node/link_rates" "$folder/node/"
binaries+=("$build/bench/node/link_rates")

# The C and C++ libraries must fit the machine's own loader; the driver belongs to its GPU.
of_the_machine='^(linux-vdso|ld-linux.*|libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s|libgomp|libcuda)\.so'
while read -r name _ path _; do
  name="${name##*/}"
  [[ ! "$name" =~ $of_the_machine ]] || continue
  [[ -f "$path" ]] || die "the library $name is not found on this machine"
  cp -L "$path" "$folder/lib/$name"
done < <(for binary in "${binaries[@]}"; do ldd "$binary"; done | sort -u)
strip "$folder"/{tests/*,bin/*,bench/*.so,node/link_rates}
find "$folder" -type f -size +"${large_bytes}c" -exec gzip -n -9 {} +

commit="$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)"
[[ -z "$(git status --porcelain 2>/dev/null)" ]] || commit+="+changes"
{
  echo "commit=$commit"
  sed -nE 's/^ *"([a-z]+)": "([0-9a-f]{16})",?$/evidence_\1=\2/p' <<<"$hashes"
} >"$folder/evidence.env"
cp tools/gpu/run_suite.sh tools/gpu/unpack.sh bench/node.sh "$folder/"
cp tools/gpu/run_packed.sh "$folder/run.sh"

bytes="$(du -sb "$folder" | cut -f 1)"
echo "pack_suite: $folder, $((bytes / 1000000)) MB"
[[ "$bytes" -lt "$limit_bytes" ]] ||
  die "$folder has $bytes bytes, allowed are less than $limit_bytes"
