#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command in an unpacked copy of the folder that `make gpu-suite` packs, where it is run.sh: bin/comet is first
# in PATH, experiments/ and bench/ have the scripts. Files that are to stay are named by absolute paths.
#
#   run.sh COMMAND...
set -euo pipefail

die() {
  echo "run: $*" >&2
  exit 1
}

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
[[ $# -ge 1 ]] || die "usage: run.sh COMMAND..."
[[ -f "$here/unpack.sh" ]] || die "no unpack.sh beside this script: run it where make gpu-suite put it"
# shellcheck source=/dev/null
source "$here/unpack.sh"
unpack_suite "$here"
export PATH="$PWD/bin:$PATH"
"$@"
