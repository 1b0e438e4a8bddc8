#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Packs the Python package, built with CUDA, and its tests for a GPU machine without a build.
#
#   tools/gpu/pack_python.sh PYTHON [FOLDER]   default folder: build/gpu-python
#
# PYTHON is an interpreter of the machine's version, with its headers, nanobind and scikit-build-core. There, with
# PyTorch, pytest and NumPy:
#
#   FOLDER/run_tests.sh [PYTEST_ARGUMENTS]     default: test_cuda.py
#   FOLDER/run.sh COMMAND...                   a benchmark of bench/python, say, in a copy of the folder whose libraries
#                                              are unpacked: files are named by absolute paths
set -euo pipefail
cd "$(dirname "$0")/../.."
[[ $# -ge 1 ]] || { sed -n '3,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }
python="$1"
folder="${2:-build/gpu-python}"
build=build/gpu-python-build

# shellcheck disable=SC2046 # the flags are words
cmake -G Ninja -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DCOMET_PYTHON=ON -DCOMET_CUDA=ON -DCOMET_NATIVE=OFF \
  -DCOMET_BUILD_TESTS=OFF -DCOMET_BUILD_BENCH=OFF -DCMAKE_UNITY_BUILD=ON -DCMAKE_UNITY_BUILD_BATCH_SIZE=12 \
  -DPython_EXECUTABLE="$python" $(tools/install_deps.sh --cuda-flags)
cmake --build "$build" -j "$(nproc)"
rm -rf "$folder"
mkdir -p "$folder/lib"
cmake --install "$build" --component python --prefix "$folder" >/dev/null
cp -r python/comet_moe/. "$folder/comet_moe"
cp -r python/tests "$folder/tests"
mkdir "$folder/bench"
cp -r bench/python "$folder/bench/python"
rm -f "$folder/comet_moe/libcomet_mpi.so"
find "$folder" -name __pycache__ -exec rm -rf {} +

# What the machine lacks: not the C and C++ libraries, which must fit its loader.
of_the_machine='^(linux-vdso|ld-linux.*|libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s|libgomp)\.so'
while read -r name _ path _; do
  name="${name##*/}"
  [[ "$name" =~ $of_the_machine ]] || cp -L "$path" "$folder/lib/$name"
done < <(ldd "$folder"/comet_moe/_core*.so "$folder/comet_moe/bin/comet" | grep '=> /' | sort -u)
strip "$folder"/comet_moe/_core*.so "$folder/comet_moe/bin/comet"
gzip -n -9 "$folder"/lib/*

cat >"$folder/run.sh" <<'END'
#!/usr/bin/env bash
set -euo pipefail
packed="$(cd "$(dirname "$0")" && pwd)"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cp -r "$packed/." "$folder"
gzip -d "$folder"/lib/*.gz
COMET_COMMIT="$(<"$folder/commit")"
export COMET_COMMIT PATH="$folder/comet_moe/bin:$PATH" PYTHONPATH="$folder"
export LD_LIBRARY_PATH="$folder/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
cd "$folder"
"$@"
END
cat >"$folder/run_tests.sh" <<'END'
#!/usr/bin/env bash
set -euo pipefail
[[ $# -gt 0 ]] || set -- test_cuda.py
# shellcheck disable=SC2016 # the inner shell expands it
"$(dirname "$0")/run.sh" bash -c 'cd tests && python3 -m pytest -q -p no:cacheprovider "$@"' run_tests.sh "$@"
END
chmod +x "$folder/run.sh" "$folder/run_tests.sh"
commit="$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)"
[[ -z "$(git status --porcelain 2>/dev/null)" ]] || commit+="-dirty"
echo "$commit" >"$folder/commit"
du -sh "$folder"
