#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the GPU tests, the compute-sanitizers and the GPU benchmarks from the folder that `make
# gpu-suite` packs, on a machine that needs bash, the GPU and its driver, compute-sanitizer and, for
# the benchmarks, python3 with torch and NVSHMEM (nvidia-nvshmem-cu13). Ends within 10 minutes.
#
#   run_suite.sh OUT_DIR [tests|sanitize|gemm|overlap|processes]...   default: all five
#
# OUT_DIR gets rows.jsonl, one row per program and kind, and a log for each. Exits 1 if any failed. A claim
# about speed that does not hold is said, and its row says "failed", which check_evidence.py sees; it does not
# fail the suite, whose other results would go unnoticed then.
# A suite writes its rows once all its programs have run, so that a part never looks like the whole.
set -uo pipefail
exec </dev/null

# What the sanitizers run of a program, being 10 to 100 times slower; all of it if it is not here.
declare -A sanitize_filter=(
  [cuda_conformance_test]='*Small*'
  [cuda_layer_test]='*Small*'
  # racecheck cannot track what several ranks launch at once; a rank that is its own peer runs the
  # same kernels.
  [cuda_conformance_test/racecheck]='*SmallOneRank*'
  [cuda_layer_test/racecheck]='*SmallOneRank*'
  [grouped_gemm_test]='*Small*:*Refuses*'
  [order_kernels_test]='*Small*'
  [plan_kernels_test]='-*TimeOf*:*RandomPlans*'
)
sanitizer_tools=(memcheck racecheck synccheck initcheck)
declare -A bench_arguments=(
  [gemm_rates.py]='--library bench/libcomet_gemm.so --partitions --check'
  [overlap_grid.py]='--comet bin/comet --check'
  [released_stages.py]='--comet bin/comet --check'
  [process_worlds.py]='--comet bin/comet --check --splits 8x1'
)
declare -A benches_of=(
  [gemm]='gemm_rates.py'
  [overlap]='overlap_grid.py released_stages.py'
  [processes]='process_worlds.py'
)
# Seconds that a program takes on a quiet H200; under sanitizers, of which racecheck takes more, on average.
declare -A seconds_of=(
  [cuda_conformance_test]=120 [cuda_layer_test]=10 [grouped_gemm_test]=12
  [sanitizer/cuda_conformance_test]=9 [sanitizer/cuda_layer_test]=5 [sanitizer/grouped_gemm_test]=7
  [gemm_rates.py]=7 [overlap_grid.py]=165 [process_worlds.py]=145 [released_stages.py]=16
)
default_seconds=3 # of what is not there
total_seconds=580

die() {
  echo "run_suite: $*" >&2
  exit 1
}

[[ $# -ge 1 ]] || die "usage: run_suite.sh OUT_DIR [tests|sanitize|gemm|overlap|processes]..."
mkdir -p "$1" || die "cannot make the folder $1"
out="$(cd "$1" && pwd)"
shift
parts=("$@")
all_parts=(tests sanitize gemm overlap processes)
[[ $# -gt 0 ]] || parts=("${all_parts[@]}")
for part in "${parts[@]}"; do
  [[ " ${all_parts[*]} " == *" $part "* ]] || die "no part '$part': allowed are ${all_parts[*]}"
done

cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
[[ -f evidence.env ]] || die "no evidence.env beside this script: run it where make gpu-suite put it"
# shellcheck source=/dev/null
source ./evidence.env # commit, and evidence_<suite>
# shellcheck source=/dev/null
source ./unpack.sh
shopt -s nullglob
unpack_suite "$PWD"

find_nvshmem

gpu="$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)"
[[ -n "$gpu" ]] || die "nvidia-smi names no GPU on this machine"
now() { date -u +%Y-%m-%dT%H:%M:%SZ; }
run="$(date -u +%Y%m%dT%H%M%SZ)-$$"
rows="$out/rows.jsonl"
: >"$rows" || exit 1

text() { # text <string>: the string as JSON.
  local s="${1//\\/\\\\}"
  printf '"%s"' "${s//\"/\\\"}" | tr -d '\000-\037'
}

failures=0
unheld=() # benchmarks that are right, but slower than they claim
claims_broken=3 # their exit code then
summary=()
part_rows=()
record() { # record <suite> <kind> <program> <passed|failed> <count> <command> <note>
  local evidence_name="evidence_$1"
  part_rows+=("$(printf '{"suite":"%s","kind":"%s","program":"%s","result":"%s","count":%d,' \
    "$1" "$2" "$3" "$4" "$5"
  printf '"evidence":"%s","gpu":%s,"commit":"%s","date":"%s","run":"%s","command":%s}' \
    "${!evidence_name}" "$(text "$gpu")" "$commit" "$(now)" "$run" "$(text "$6")")")
  summary+=("$(printf '%-10s %-10s %-22s %-7s %5d%s' "$1" "$2" "$3" "$4" "$5" "${7:+  $7}")")
  [[ "$4" == passed || "$2" == claims ]] || failures="$((failures + 1))"
}

write_rows() {
  [[ ${#part_rows[@]} -eq 0 ]] || printf '%s\n' "${part_rows[@]}" >>"$rows"
  part_rows=()
}

# limited <name> <log> <command>...: runs the program of that name in seconds_of, for at most the time that is
# left less what the programs after it take. So all time to spare is the present one's, and one that hangs
# takes no other's.
limited() {
  local limit log="$2"
  seconds_after="$((seconds_after - $(seconds_for "$1")))"
  limit="$((total_seconds - SECONDS - seconds_after))"
  shift 2
  [[ "$limit" -ge 1 ]] || limit=1
  echo "--- (limit $limit s) $*"
  # KILL, since it reaches all descendants: a test that a sanitizer leaves behind would hold the GPU.
  timeout --signal=KILL "$limit" "$@" >"$log" 2>&1
}

seconds_for() { echo "${seconds_of[$1]:-$default_seconds}"; }

# What run_<part> will take.
seconds_of_part() { # seconds_of_part <part>
  local sum=0 name tools=1 prefix="" names=("${programs[@]##*/}")
  case "$1" in
    tests) ;;
    sanitize) tools="${#sanitizer_tools[@]}" prefix=sanitizer/ ;;
    *) read -ra names <<<"${benches_of[$1]}" ;;
  esac
  for name in "${names[@]}"; do sum="$((sum + tools * $(seconds_for "$prefix$name")))"; done
  echo "$sum"
}

reason() { # reason <exit code> <log>: why a program failed, for the summary.
  case "$1" in
    137) echo "over its limit, see ${2##*/}" ;;
    *) echo "exit $1, see ${2##*/}" ;;
  esac
}

# judge <suite> <kind> <program> <exit code> <log> <command>: of a GoogleTest program. Skipped tests
# are failures: on a GPU machine there is nothing to skip for.
judge() {
  local suite="$1" kind="$2" name="$3" code="$4" log="$5" result=passed note="" count
  count="$(grep -c '^\[       OK \]' "$log")"
  if [[ "$code" -ne 0 ]]; then
    note="$(reason "$code" "$log")"
  elif [[ "$count" -eq 0 ]]; then
    note="ran no test"
  elif grep -q '^\[  SKIPPED \]' "$log"; then
    note="skipped tests, see ${log##*/}"
  elif [[ "$suite" == sanitizer ]] &&
    ! grep -Eq 'SUMMARY: 0 (errors|hazards)' "$log"; then
    note="no clean summary of $kind, see ${log##*/}"
  fi
  if [[ -n "$note" ]]; then
    result=failed
    tail -n 30 "$log" | sed 's/^/    /'
  fi
  record "$suite" "$kind" "$name" "$result" "$count" "$6" "$note"
}

programs=(tests/*_test)

run_tests() {
  local program name log
  for program in "${programs[@]}"; do
    name="${program##*/}"
    log="$out/tests-$name.log"
    limited "$name" "$log" "$program"
    judge tests gtest "$name" "$?" "$log" "$program"
  done
  [[ ${#programs[@]} -gt 0 ]] || record tests gtest none failed 0 "" "no program in tests/"
}

run_sanitize() {
  local program name tool log command
  for program in "${programs[@]}"; do
    name="${program##*/}"
    for tool in "${sanitizer_tools[@]}"; do
      log="$out/sanitizer-$name-$tool.log"
      command=(env COMET_LOCKSTEP=1 compute-sanitizer --tool "$tool" --error-exitcode 99 "$program"
        "--gtest_filter=${sanitize_filter[$name/$tool]:-${sanitize_filter[$name]:-*}}")
      limited "sanitizer/$name" "$log" "${command[@]}"
      judge sanitizer "$tool" "$name" "$?" "$log" "${command[*]}"
    done
  done
  [[ ${#programs[@]} -gt 0 ]] || record sanitizer none none failed 0 "" "no program in tests/"
}

# Benchmarks append rows of their own; one that ends badly adds a failed row to them.
run_bench() { # run_bench <suite>
  local suite="$1" names name log code count command own="$out/bench-rows.jsonl"
  local evidence_name="evidence_$1" # of evidence.env
  export COMET_COMMIT="$commit" COMET_RUN="$run" COMET_ROWS="$own"
  export COMET_EVIDENCE="${!evidence_name}"
  read -ra names <<<"${benches_of[$suite]}"
  for name in "${names[@]}"; do
    log="$out/bench-$name.log"
    read -ra command <<<"python3 bench/$name ${bench_arguments[$name]:-}"
    : >"$own"
    limited "$name" "$log" "${command[@]}"
    code="$?"
    sed 's/^/    /' "$log" | tail -n 60
    count="$(grep -c . "$own")"
    cat "$own" >>"$rows"
    if [[ "$code" -eq "$claims_broken" && "$count" -gt 0 ]]; then
      record "$suite" claims "$name" failed "$count" "${command[*]}" "some do not hold, see ${log##*/}"
      unheld+=("$name")
    elif [[ "$code" -ne 0 ]]; then
      record "$suite" exit "$name" failed "$count" "${command[*]}" "$(reason "$code" "$log")"
    elif [[ "$count" -eq 0 ]]; then
      record "$suite" exit "$name" failed 0 "${command[*]}" "wrote no row"
    else
      summary+=("$(printf '%-10s %-10s %-22s %-7s %5d' "$suite" rows "$name" passed "$count")")
      ! grep -q '"result": *"failed"' "$own" || failures="$((failures + 1))"
    fi
  done
  rm -f "$own"
}

seconds_after=0 # what is still to run takes
for part in "${parts[@]}"; do seconds_after="$((seconds_after + $(seconds_of_part "$part")))"; done
for part in "${parts[@]}"; do
  case "$part" in
    tests | sanitize) "run_$part" ;;
    *) run_bench "$part" ;;
  esac
  write_rows
done

echo
echo "=== $gpu, commit $commit, $SECONDS s, rows in $rows"
printf '%-10s %-10s %-22s %-7s %5s\n' suite kind program result count
printf '%s\n' "${summary[@]}"
if [[ "$failures" -gt 0 ]]; then
  echo "run_suite: $failures failed"
  exit 1
fi
if [[ ${#unheld[@]} -gt 0 ]]; then
  echo "run_suite: all passed, but not all claims about speed hold: ${unheld[*]}"
else
  echo "run_suite: all passed"
fi
