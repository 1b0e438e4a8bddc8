#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the fuzz harnesses and runs each for an equal share of the given seconds of processor time
# (default 60).
# A finding is kept in build/cpu-fuzz/findings, and the last line says how to replay it.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds="${1:-60}"
[[ "$seconds" =~ ^[1-9][0-9]*$ ]] || { echo "fuzz: '$seconds' is no number of seconds" >&2; exit 1; }

cmake --preset cpu-fuzz
cmake --build --preset cpu-fuzz -j "$(nproc)"

harnesses=()
for list in build/cpu-fuzz/fuzz/*.seeds; do
  [[ -x "${list%.seeds}" ]] && harnesses+=("${list%.seeds}")
done
[[ ${#harnesses[@]} -gt 0 ]] || { echo "fuzz: no harness was built" >&2; exit 1; }
share=$(((seconds + ${#harnesses[@]} - 1) / ${#harnesses[@]}))

mkdir -p build/cpu-fuzz/findings
fuzz_one() { # fuzz_one <harness>
  local harness="$1" name corpus folders seeds log runs
  name="$(basename "$harness")"
  corpus="build/cpu-fuzz/corpus/$name" # grows from run to run
  mkdir -p "$corpus"
  folders=("$corpus")
  seeds="$(<"$harness.seeds")"
  [[ -n "$seeds" ]] && folders+=("$seeds")
  log="build/cpu-fuzz/$name.log"
  # Hostile files must not make the reader allocate what they claim, hence the limit on memory.
  if "$harness" -max_total_time="$share" -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=256 \
    -print_final_stats=1 -artifact_prefix="build/cpu-fuzz/findings/$name-" \
    "${folders[@]}" </dev/null >"$log" 2>&1; then
    runs="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
    echo "fuzz: $name ok, $runs inputs in $share s"
  else
    grep -vE '^(#[0-9]+|"|\s*NEW_FUNC)' "$log" | tail -n 60 >&2
    echo "fuzz: $name FAILED; replay: $harness <the file in build/cpu-fuzz/findings>" >&2
    return 1
  fi
}

# One harness keeps one processor busy, so as many run at once as there are.
export -f fuzz_one
export share
printf '%s\0' "${harnesses[@]}" | xargs -0 -P "$(nproc)" -I{} bash -c 'fuzz_one {}'
