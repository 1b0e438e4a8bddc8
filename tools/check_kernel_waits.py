#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Finds kernels that may start before the one before them has ended, and do not wait for it.

What launch_kernel and launch_clusters launch may start early (kernels/launch.cuh), so each such kernel calls
wait_for_kernels_before() in all threads: in the outermost block of its body, before any return, and before global
memory is touched. The last is not looked at; a missing call, or one too late, no test or sanitizer on a GPU would
reliably see. Prints one line per kernel and exits 1 if there is any.
"""

import argparse
import re
import sys
from pathlib import Path

WAIT = "wait_for_kernels_before();"
LAUNCH = r"\b(?:launch_kernel\(|launch_clusters\([^,()]+,)\s*(\w+)"

# Reads the plan and weights before it waits (grouped_gemm.hpp, loads_ahead).
WAITS_BY_ROLE = "product_chain_kernel"


def body_of(text, begin):
    """What is between the first brace after `begin` and the one that closes it."""
    begin = text.index("{", begin) + 1
    depth, at = 1, begin
    while depth > 0:
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
    return text[begin : at - 1]


def outermost(body):
    """The body without nested blocks."""
    kept, depth = [], 0
    for char in body:
        depth -= char == "}"
        if depth == 0:
            kept.append(char)
        depth += char == "{"
    return "".join(kept)


def fault_of(body):
    """What is wrong with a kernel's body, or ""."""
    if WAIT not in outermost(body):
        return f"does not call {WAIT}"
    if re.search(r"\breturn\b", body[: body.index(WAIT)]):
        return f"may return before {WAIT}"
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    root = parser.parse_args().root
    files = sorted(p for p in (root / "src").rglob("*") if p.suffix in (".cu", ".cuh"))
    texts = {path: re.sub(r"//.*", "", path.read_text(encoding="utf-8")) for path in files}
    kernels = {}
    for path, text in texts.items():
        for found in re.finditer(r"__global__\s+void\s+(?:__launch_bounds__\([^()]*\)\s+)?(\w+)\s*\(", text):
            kernels.setdefault(found[1], []).append((path, body_of(text, found.end())))
    launched = {name for text in texts.values() for name in re.findall(LAUNCH, text)}
    launched -= {"void", "kernel", WAITS_BY_ROLE}  # the first two in launch.cuh itself
    faults = [f"{name}: launched, but no kernel has that name" for name in sorted(launched - set(kernels))]
    for name in sorted(launched & set(kernels)):
        for path, body in kernels[name]:
            why = fault_of(body)
            if why:
                faults.append(f"{path.relative_to(root)}: {name} {why}")
    for fault in faults:
        print(fault)
    print(f"check_kernel_waits: {len(launched)} kernels, {len(faults)} fault(s)")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
