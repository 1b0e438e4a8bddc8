#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures Comet on all GPUs of one machine, a rank on each, within 9 minutes: topology, rates of links and
# latency of signals, conformance, ranks as processes, the paper's grid and few tokens beside NCCL with torch._grouped_mm,
# the scale model beside the real ranks, sweeps of the division of work, from which a profile is made. Needs
# what `make gpu-suite` packs (this script runs from there), bash, Hopper GPUs that reach each other's memory,
# for the NCCL baseline python3 with torch, and for processes NVSHMEM (nvidia-nvshmem-cu13).
#
#   bench/node.sh OUT_DIR [--seconds N] [--ranks N] [PART]...
#
#   PART         topology, link, tests, processes, grid, nccl, few, scale, sweep; default: all, in this order
#   --seconds N  for all of it; default 530. Parts share it; what has no time is named and left out
#   --ranks N    default: the GPUs, or 2 where there is one, which they then share: a rehearsal
#
# OUT_DIR gets rows.jsonl (suite "node"; of processes "processes"), summary.md, the tables and claims of
# node_tables.py, profile.json, from which layers may take their choices, and a log for each part. Exits 1 if
# a part failed; claims of the tables that do not hold are said and fail nothing.
set -uo pipefail
exec </dev/null

die() {
  echo "node: $*" >&2
  exit 1
}

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)" || exit 1
if [[ ! -f "$here/evidence.env" ]]; then
  packed="$here/../build/gpu-suite/node.sh"
  [[ -x "$packed" ]] || die "build/gpu-suite is not there: run 'make gpu-suite' first"
  exec "$packed" "$@"
fi

all_parts=(topology link tests processes grid nccl few scale sweep)
# Shares of the time.
declare -A weight=([topology]=1 [link]=3 [tests]=27 [processes]=16 [grid]=28 [nccl]=6 [few]=14 [scale]=5 [sweep]=16)
total_seconds=530
ranks=0
out=""
parts=()
whole_number() { # whole_number <flag> <value>
  [[ "$2" =~ ^[1-9][0-9]{0,4}$ ]] || die "$1: '$2' is no whole number from 1"
}
while [[ $# -gt 0 ]]; do
  case "$1" in
    --seconds | --ranks)
      whole_number "$1" "${2:-}"
      if [[ "$1" == --ranks ]]; then ranks="$2"; else total_seconds="$2"; fi
      shift
      ;;
    -*) die "unknown flag '$1': --seconds N and --ranks N are there" ;;
    *) if [[ -z "$out" ]]; then out="$1"; else parts+=("$1"); fi ;;
  esac
  shift
done
[[ -n "$out" ]] || die "usage: node.sh OUT_DIR [--seconds N] [--ranks N] [PART]..."
[[ ${#parts[@]} -gt 0 ]] || parts=("${all_parts[@]}")
weights=0
for part in "${parts[@]}"; do
  [[ -n "${weight[$part]:-}" ]] || die "no part '$part': allowed are ${all_parts[*]}"
  weights="$((weights + weight[$part]))"
done
mkdir -p "$out" || die "cannot make the folder $out"
out="$(cd "$out" && pwd)"

cd "$here" || exit 1
# shellcheck source=/dev/null
source ./evidence.env # commit, and evidence_<suite>
# shellcheck source=/dev/null
source ./unpack.sh
unpack_suite "$PWD"
gpus="$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | grep -c .)"
[[ "$gpus" -ge 1 ]] || die "nvidia-smi names no GPU on this machine"
if [[ "$ranks" -eq 0 ]]; then ranks="$((gpus > 1 ? gpus : 2))"; fi
[[ "$ranks" -ge "$gpus" ]] || gpus="$ranks" # the first ones

run="$(date -u +%Y%m%dT%H%M%SZ)-node"
rows="$out/rows.jsonl"
: >"$rows" || exit 1
export COMET_COMMIT="$commit" COMET_RUN="$run" COMET_ROWS="$rows" COMET_EVIDENCE="$evidence_overlap"
export PYTHONPATH="$PWD/bench:$PWD/experiments" PYTHONUNBUFFERED=1
# Multicast over NVLink stays off: a fault in it can take all GPUs of a host out of service.
export NCCL_NVLS_ENABLE="${NCCL_NVLS_ENABLE:-0}" NVSHMEM_DISABLE_NVLS="${NVSHMEM_DISABLE_NVLS:-1}"
export TORCH_SYMM_MEM_DISABLE_MULTICAST="${TORCH_SYMM_MEM_DISABLE_MULTICAST:-1}"
find_nvshmem

record() { # record <kind> <program> <exit code> <count> <command>: failed if it passed nothing, too.
  local result=passed note=""
  case "$3" in
    0) [[ "$4" -gt 0 ]] || { result=failed note="nothing passed"; } ;;
    137) result=failed note="over its limit" ;;
    *) result=failed note="exit $3" ;;
  esac
  {
    printf '{"suite":"node","kind":"%s","program":"%s","result":"%s","note":"%s","count":%d,"gpus":%d,' \
      "$1" "$2" "$result" "$note" "$4" "$gpus"
    printf '"evidence":"%s","commit":"%s","date":"%s","run":"%s","command":"%s"}\n' \
      "$COMET_EVIDENCE" "$commit" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$run" "$5"
  } >>"$rows"
  [[ "$result" == passed ]]
}

# limited <seconds> <log> <command>...: KILL, since it reaches all descendants.
limited() {
  local limit="$1" log="$2"
  shift 2
  [[ "$limit" -ge 1 ]] || limit=1
  echo "--- (limit $limit s) $*"
  timeout --signal=KILL "$limit" "$@" >>"$log" 2>&1
}

# More ranks than GPUs share them by MPS. Few deaths, since each takes seconds; run_suite.sh has more.
run_processes() { # run_processes <end> <log>
  COMET_EVIDENCE="$evidence_processes" limited "$(($1 - SECONDS))" "$2" python3 bench/process_worlds.py \
    --comet bin/comet --check --gpus "$gpus" --ranks "$ranks" --cases 20 --kills 2 --mpi-kills 0 --stops 1 \
    --splits "${ranks}x1"
  local code="$?"
  [[ "$code" -ne 3 ]] || return 0 # a claim about times alone
  return "$code"
}

# The quick ones first, so that the longest has what they leave, and not they what it leaves.
run_tests() { # run_tests <end> <log>
  local program code count failed=0
  limited "$(($1 - SECONDS))" "$2" bin/comet check --backend cuda --random 100 --seed 9
  code="$?"
  count=0
  [[ "$code" -ne 0 ]] || count=100
  record check "comet check" "$code" "$count" "comet check --backend cuda --random 100 --seed 9" || failed=1
  for program in cuda_layer_test cuda_conformance_test; do
    limited "$(($1 - SECONDS))" "${2%.log}-$program.log" "tests/$program"
    code="$?"
    count="$(grep -c '^\[       OK \]' "${2%.log}-$program.log")"
    tail -n 3 "${2%.log}-$program.log" >>"$2"
    # Skipped tests are failures: on a GPU machine there is nothing to skip for.
    ! grep -q '^\[  SKIPPED \]' "${2%.log}-$program.log" || code=1
    record gtest "$program" "$code" "$count" "tests/$program" || failed=1
  done
  return "$failed"
}

bench() { # bench <end> <log> <part> [flag]...
  local left="$(($1 - SECONDS))" log="$2" part="$3"
  shift 3
  limited "$((left + 15))" "$log" python3 node/node_bench.py "$part" --comet bin/comet --ranks "$ranks" \
    --gpus "$gpus" --seconds "$left" "$@"
}

models=mixtral-8x7b,qwen2-moe-2.7b,phi-3.5-moe

run_nccl() { # run_nccl <end> <log> [flag]...
  local left="$(($1 - SECONDS))" log="$2"
  shift 2
  limited "$left" "$log" python3 node/nccl_layer.py --json "$rows" --gpus "$gpus" "$@"
}

# Comet, and then NCCL, which takes 15 seconds to start, with the tokens that node_bench.py has as FEW_TOKENS. It
# has a rank on each GPU in a rehearsal, too.
run_few() { # run_few <end> <log>
  local failed=0
  bench "$((SECONDS + ($1 - SECONDS) / 2))" "$2" few || failed=1
  run_nccl "$1" "$2" --models "$models" --tokens 64,256,1024 --splits "${gpus}x1,1x${gpus}" || failed=1
  return "$failed"
}

failures=()
for part in "${parts[@]}"; do
  # Time that an earlier part did not use goes to the later ones.
  end="$((SECONDS + (total_seconds - SECONDS) * weight[$part] / weights))"
  weights="$((weights - weight[$part]))"
  log="$out/$part.log"
  : >"$log"
  case "$part" in
    topology) bench "$end" "$log" topology ;;
    link) bench "$end" "$log" link --link-rates node/link_rates ;;
    tests) run_tests "$end" "$log" ;;
    processes) run_processes "$end" "$log" ;;
    grid | sweep) bench "$end" "$log" "$part" ;;
    nccl) run_nccl "$end" "$log" --models "$models,qwen2-moe-2.7b:2,qwen2-moe-2.7b:1" ;;
    few) run_few "$end" "$log" ;;
    scale) bench "$end" "$log" scale --link-rows "$rows" ;;
  esac
  code="$?"
  sed 's/^/    /' "$log" | tail -n 70
  [[ "$code" -eq 0 ]] || failures+=("$part (exit $code, see $part.log)")
done

echo
echo "=== $gpus GPUs, $ranks ranks, commit $commit, $SECONDS s, rows in $rows"
[[ "$ranks" -eq "$gpus" ]] || echo "A REHEARSAL: $ranks ranks share $gpus GPUs."
python3 node/node_tables.py "$rows" | tee "$out/summary.md"
if grep -E '"kind": *"(layer|sweep)"' "$rows" >layers.jsonl; then
  bin/comet tune --rows layers.jsonl --profile "$out/profile.json" >"$out/profile.log" 2>&1 ||
    failures+=("profile (exit $?, see profile.log)")
fi
if [[ ${#failures[@]} -gt 0 ]]; then
  echo "node: failed: ${failures[*]}" >&2
  exit 1
fi
echo "node: all parts done"
