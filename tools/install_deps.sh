#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian 12 packages that Comet needs, and only those that are missing. Once all are
# there it asks neither for root nor for the network, so `make build` can call it every time.
#
#   tools/install_deps.sh               what building and testing needs
#   tools/install_deps.sh --tools       also what lint, fuzz and docs need
#   tools/install_deps.sh --python      also what pip needs to build the Python package
#   tools/install_deps.sh --cuda        also nvcc 13; where there is none, in build/cuda-toolkit
#   tools/install_deps.sh --cuda-flags  installs nothing; prints how CMake finds that nvcc, if need be
set -euo pipefail

build_packages=(
  make git g++ cmake ninja-build
  libfmt-dev nlohmann-json3-dev libcli11-dev
  libdnnl-dev
  ocl-icd-opencl-dev # Debian's oneDNN has OpenCL in its CMake config, but not in its Depends
  libopenmpi-dev openmpi-bin # world mpi
  iproute2 # the tests of world mpi join two hosts on one machine
  libgtest-dev libbenchmark-dev
  python3 # the checks in tools/ are CTest tests; the C++ build itself needs no Python
)
tool_packages=(
  clang libclang-rt-14-dev clang-format clang-tidy doxygen
  libomp-14-dev # <omp.h> where clang looks for it
)

python_packages=(python3-dev python3-pip python3-venv)

# The CUDA compiler without the rest of the toolkit, as Python wheels for x86_64.
cuda_wheels="
nvidia-cuda-nvcc==13.0.88 --hash=sha256:56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03
nvidia-cuda-crt==13.0.88 --hash=sha256:2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4
nvidia-nvvm==13.0.88 --hash=sha256:c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0
nvidia-cuda-runtime==13.0.96 --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
nvidia-cuda-cccl==13.0.85 --hash=sha256:e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649
nvidia-nvtx==13.0.85 --hash=sha256:4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4
"
# What world nvshmem is built with and needs at run time.
nvshmem_wheel="nvidia-nvshmem-cu13==3.4.5 --hash=sha256:290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80"
nvshmem_folder="$(cd "$(dirname "$0")/.." && pwd)/build/nvshmem"
cuda_folder="$(cd "$(dirname "$0")/.." && pwd)/build/cuda-toolkit"
cuda_in_folder="nvidia/cu13" # where the wheels put the toolkit's root

die() {
  echo "install_deps: $*" >&2
  exit 1
}

is_nvcc_13() { [[ -x "$1" && "$("$1" --version 2>/dev/null)" == *"release 13."* ]]; }

# The first nvcc of release 13 among PATH, the usual place and our own folder; fails if there is none.
find_nvcc() {
  local nvcc
  for nvcc in "$(command -v nvcc)" /usr/local/cuda/bin/nvcc "$cuda_folder/$cuda_in_folder/bin/nvcc"; do
    if is_nvcc_13 "$nvcc"; then
      echo "$nvcc"
      return 0
    fi
  done
  return 1
}

wanted=("${build_packages[@]}")
cuda_is_missing=
nvshmem_is_missing=
case "${1:-}" in
  "") ;;
  --tools) wanted+=("${tool_packages[@]}") ;;
  --python) wanted+=("${python_packages[@]}") ;;
  --cuda)
    if ! find_nvcc >/dev/null; then
      cuda_is_missing=yes
      wanted+=(python3-pip)
    fi
    if [[ "$(uname -m)" == x86_64 && -z "${NVSHMEM_HOME:-}" &&
      "$(cat "$nvshmem_folder/wheels.txt" 2>/dev/null)" != "$nvshmem_wheel" ]]; then
      nvshmem_is_missing=yes
      wanted+=(python3-pip)
    fi
    ;;
  --cuda-flags)
    nvcc="$(find_nvcc)" || die "no nvcc of release 13 here: run 'tools/install_deps.sh --cuda'"
    # CMake finds by itself what is on PATH.
    [[ "$nvcc" == "$(command -v nvcc)" ]] ||
      echo "-DCMAKE_CUDA_COMPILER=$nvcc -DCUDAToolkit_ROOT=${nvcc%/bin/nvcc}"
    exit 0
    ;;
  *) die "unknown argument '$1': allowed are --tools, --python, --cuda and --cuda-flags" ;;
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
    python3-pip) python3 -m pip --version >/dev/null 2>&1 && return 0 ;;
  esac
  [[ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null)" == ii* ]]
}

missing=()
for package in "${wanted[@]}"; do
  have "$package" || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 || -n "$cuda_is_missing$nvshmem_is_missing" ]] || exit 0

log="$(mktemp)"
trap 'rm -f "$log"' EXIT
as_root=()
apt_get() {
  # The lock wait covers a machine that is updating itself in the background.
  if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -q -y -o DPkg::Lock::Timeout=120 "$@" </dev/null >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    die "'apt-get $1' failed (its last lines are above); wanted: ${missing[*]}"
  fi
}

install_packages() {
  if [[ "$(id -u)" -ne 0 ]]; then
    command -v sudo >/dev/null ||
      die "not root and no sudo here, so have root install these packages: ${missing[*]}"
    as_root=(sudo)
  fi
  echo "install_deps: installing ${missing[*]}"
  apt_get update
  apt_get install --no-install-recommends "${missing[@]}"
}

# The wheels that "$1" lists, with their hashes, into folder "$2".
install_wheels() {
  mkdir -p "$2"
  echo "$1" >"$2/wheels.txt"
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
    --only-binary :all: --target "$2" -r "$2/wheels.txt" </dev/null >"$log" 2>&1 && return 0
  tail -n 20 "$log" >&2
  return 1
}

# All else is built without it, too; CI must compile what needs it.
install_nvshmem() {
  local advice="or set NVSHMEM_HOME to an NVSHMEM 3 for CUDA 13"
  echo "install_deps: installing NVSHMEM in $nvshmem_folder"
  rm -rf "$nvshmem_folder.new"
  if ! install_wheels "$nvshmem_wheel" "$nvshmem_folder.new"; then
    [[ -z "${CI:-}" ]] || die "pip failed (its last lines are above); $advice"
    echo "install_deps: no NVSHMEM (pip's last lines are above), so no world nvshmem; $advice" >&2
    return 0
  fi
  rm -rf "$nvshmem_folder"
  mv "$nvshmem_folder.new" "$nvshmem_folder"
}

# Into a folder beside its place, which it takes only once it has compiled a kernel.
install_cuda() {
  local new="$cuda_folder.new" root="$cuda_folder.new/$cuda_in_folder"
  [[ "$(uname -m)" == x86_64 ]] ||
    die "this is no x86_64 machine: install nvcc of CUDA 13.0 in /usr/local/cuda by hand"
  echo "install_deps: installing nvcc 13.0 in $cuda_folder"
  rm -rf "$new"
  install_wheels "$cuda_wheels" "$new" ||
    die "pip failed (its last lines are above); or install nvcc of CUDA 13.0 in /usr/local/cuda"
  ln -s libcudart.so.13 "$root/lib/libcudart.so" # CMake looks for it by this name alone
  echo '__global__ void k(float* x) { *x = sinf(*x); } int main() { k<<<1, 1>>>(nullptr); }' \
    >"$new/probe.cu"
  if ! "$root/bin/nvcc" -std=c++20 -arch=sm_90a -o "$new/probe" "$new/probe.cu" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    die "the installed nvcc cannot compile a kernel (its last lines are above)"
  fi
  rm -rf "$cuda_folder" "$new"/probe*
  mv "$new" "$cuda_folder"
}

[[ ${#missing[@]} -eq 0 ]] || install_packages
[[ -z "$cuda_is_missing" ]] || install_cuda
[[ -z "$nvshmem_is_missing" ]] || install_nvshmem
