#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One hash per GPU suite of what the compiler sees of its sources, but for its flags.

A row measured on a GPU carries the hash of its suite, and is evidence only for sources of that hash.
Comments and white space do not count, so that rewording a comment costs no GPU time. As a command it
prints the hashes as JSON.
"""

import argparse
import hashlib
import io
import json
import re
import sys
import tokenize
from pathlib import Path

# Worlds whose ranks are processes: only the programs of suite "processes" make one.
PROCESS_WORLDS = (
    "!src/comm/process/**/*",
    "!src/comm/net/**/*",
    "!src/comm/mpi/**/*",
    "!src/comm/plugin.*",
    "!src/backend/cuda/nvshmem/**/*",
    "!src/backend/cuda/host/nvshmem_library.*",
    "!src/backend/cuda/host/process_device.*",
    "!src/backend/cuda/host/symmetric_heap.*",
    "!include/comet/mpi_world.hpp",
    "!include/comet/process_world.hpp",
)
# What every call of a layer on GPUs goes through.
LAYERS = (
    "src/backend/cuda/**/*",
    "src/comm/**/*",
    "src/layer/**/*",
    "src/plan/*.hpp",
    "src/plan/plan.cpp",
    "src/layout/**/*",
    "src/base/**/*",
    "include/comet/*.hpp",
)
TESTED = (*LAYERS, "src/check/**/*", "tests/cuda/**/*", *PROCESS_WORLDS)
# Suite -> globs of its sources; one that starts with ! takes files out again.
SUITES = {
    "tests": TESTED,
    "sanitizer": TESTED,
    "gemm": (
        "src/backend/cuda/device/**/*",
        "src/backend/cuda/host/**/*",
        "src/backend/cuda/kernels/**/*",
        "!src/backend/cuda/kernels/plan_*",
        "src/plan/plan.hpp",
        "bench/cuda/**/*",
        "!bench/cuda/overlap_grid.py",
        "!bench/cuda/released_stages.py",
        "!bench/cuda/process_worlds.py",
        *PROCESS_WORLDS,
    ),
    "overlap": (
        *LAYERS,
        "src/measure/**/*",
        "src/tune/candidates.*",
        "bench/cuda/overlap_grid.py",
        "bench/cuda/released_stages.py",
        *PROCESS_WORLDS,
    ),
    "processes": (
        *LAYERS,
        "src/check/**/*",
        "src/cli/end_watch.*",
        "src/cli/launch*",
        "src/cli/mps_*",
        "src/cli/ranks.*",
        "bench/cuda/process_worlds.py",
        "bench/python/mps.py",
    ),
}
CPP_SUFFIXES = {".hpp", ".cpp", ".cuh", ".cu"}

# Order matters: what may contain // or quotes without their meaning comes before them.
CPP_TOKEN = re.compile(
    r"""
      (?P<raw>(?:u8|[uUL])?R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)")
    | (?P<comment>//(?:\\\r?\n|[^\n])*|/\*.*?\*/)
    | (?P<literal>"(?:\\\r?\n|\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+')
    | (?P<number>\.?[0-9](?:'?[A-Za-z0-9_]|\.)*)  # 1'000 has no character literal in it
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)            # the R of FOR"..." begins no raw string
    | (?P<space>\s+)
    | (?P<other>.)
    """,
    re.DOTALL | re.VERBOSE,
)


def strip_cpp(text):
    """C++ without comments and blank lines, and with single spaces outside of literals."""
    parts = []
    gap = ""  # What stands between two tokens: nothing, one space or one line end.
    for match in CPP_TOKEN.finditer(text):
        kind, token = match.lastgroup, match.group()
        if kind in ("space", "comment"):
            # A line end counts, since it ends a directive; one inside of a comment is a space.
            ends_line = kind == "space" and "\n" in token
            gap = "\n" if ends_line or gap == "\n" else " "
            continue
        parts.append((gap if parts else "") + token)
        gap = ""
    return "".join(parts)


def strip_python(text):
    """Python without comments and blank lines, and with single spaces outside of strings."""
    lines = text.splitlines(keepends=True)

    def source(start, end):
        if start[0] == end[0]:
            return lines[start[0] - 1][start[1] : end[1]]
        middle = "".join(lines[start[0] : end[0] - 1])
        return lines[start[0] - 1][start[1] :] + middle + lines[end[0] - 1][: end[1]]

    # Newer Pythons take f-strings apart; the text between their ends is the same in all.
    opening = {getattr(tokenize, name, -1) for name in ("FSTRING_START", "TSTRING_START")}
    closing = {getattr(tokenize, name, -1) for name in ("FSTRING_END", "TSTRING_END")}
    layout = {tokenize.INDENT: "{indent}", tokenize.DEDENT: "{dedent}", tokenize.NEWLINE: "\n"}
    parts, end, depth, begin = [], (1, 0), 0, None
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in opening:
            begin = begin if depth else token.start
            depth += 1
        depth -= token.type in closing
        if depth or token.type in (tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER):
            continue
        if token.type in layout:
            parts.append(layout[token.type])
        else:
            start = begin if token.type in closing else token.start
            apart = parts and start != end and parts[-1] not in layout.values()
            parts.append((" " if apart else "") + source(start, token.end))
        end = token.end
    return "".join(parts)


def sources(root, globs):
    """Sorted C++ and Python files that the globs name, relative to the root."""
    chosen = set()
    for glob in globs:
        found = {p.relative_to(root).as_posix() for p in root.glob(glob.lstrip("!")) if p.is_file()}
        chosen = chosen - found if glob.startswith("!") else chosen | found
    return sorted(p for p in chosen if Path(p).suffix in CPP_SUFFIXES | {".py"})


def suite_hash(root, suite):
    """The evidence of one suite: 16 hexadecimal digits."""
    paths = sources(root, SUITES[suite])
    if not paths:
        raise FileNotFoundError(f"[evidence] suite {suite} has no source below {root}")
    total = hashlib.sha256()
    for path in paths:
        try:
            text = (root / path).read_text(encoding="utf-8")
            stripped = strip_python(text) if path.endswith(".py") else strip_cpp(text)
        except (SyntaxError, UnicodeDecodeError, tokenize.TokenError) as error:
            raise ValueError(f"[evidence] {path} cannot be read as source: {error}") from error
        total.update(f"{path}\0{stripped}\0".encode())
    return total.hexdigest()[:16]


def all_hashes(root):
    return {suite: suite_hash(root, suite) for suite in SUITES}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("--files", metavar="SUITE", choices=SUITES, help="list its sources instead")
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    if arguments.files:
        print("\n".join(sources(root, SUITES[arguments.files])))
        return 0
    try:
        print(json.dumps(all_hashes(root), indent=2))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
