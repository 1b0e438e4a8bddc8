#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cuts the link between two hosts while layers are called: cut_test.py MPI_LAYERS.

Every rank must end by itself within its limit of 2 s plus 2 s, with a sentence that names a rank of
the other host. COMET_LINK_CUTS sets how often (default 2). Skipped as two_hosts.py is.
"""

import os
import random
import re
import sys

import two_hosts

RANKS = (2, 2)
SECONDS_LEFT = 4.0  # to a rank after the cut


def faults_after_cut(hosts: two_hosts.TwoHosts, program: str, seconds: float) -> list[str]:
    texts, codes, took = two_hosts.run_with_cut(
        hosts, RANKS, [program, "endure"], seconds, limit=SECONDS_LEFT + 10
    )
    faults = [] if took < SECONDS_LEFT else [f"{took:.2f} s until all had ended"]
    for rank, (text, code) in enumerate(zip(texts, codes, strict=True)):
        others = "[23]" if rank < RANKS[0] else "[01]"
        sentence = text.splitlines()[-1] if text else ""
        named = re.search(rf"rank {others} is gone|for (the partials of )?rank {others}\b", sentence)
        if code != 3 or not named:
            faults.append(f"rank {rank}, exit code {code}: {text.strip()!r}")
    return faults


def main() -> int:
    os.environ.update(two_hosts.OPEN_MPI)
    rng = random.Random(7)
    cuts = int(os.environ.get("COMET_LINK_CUTS", "2"))
    try:
        for cut in range(cuts):
            seconds = rng.uniform(0, 0.5)
            with two_hosts.TwoHosts() as hosts:
                faults = faults_after_cut(hosts, sys.argv[1], seconds)
            if faults:
                print(f"cut {cut} after {seconds:.3f} s:", *faults, sep="\n  ")
                return 1
    except two_hosts.Skip as reason:
        print(f"cut_test: skipped: {reason}", file=sys.stderr)
        return two_hosts.SKIPPED
    print(f"ok: {cuts} cuts, every rank named one of the other host within {SECONDS_LEFT} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
