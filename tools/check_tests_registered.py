#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Finds source files, tests, benchmarks, fuzzers and examples that no CMakeLists.txt names.

Sources are listed by hand, so a forgotten file would be a test that never runs. Prints one line per
file and exits 1 if there is any.
"""

import argparse
import re
import sys
from pathlib import Path

# Top folder -> files in it that must be registered.
REGISTERED = {
    "src": "*.cpp",
    "tests": "*_test.cpp *_test.py *_fuzz.cpp",
    "bench": "*_bench.cpp",
}


def words(cmake_file):
    """Arguments in a CMakeLists.txt, without comments."""
    text = re.sub(r"#.*", "", cmake_file.read_text(encoding="utf-8"))
    return set(re.split(r"[\s()\"]+", text))


def is_named(path, top):
    """Whether the CMakeLists.txt of the file's folder, or of one above it, names the file."""
    folder = path.parent
    while True:
        cmake_file = folder / "CMakeLists.txt"
        if cmake_file.is_file():
            relative = path.relative_to(folder).as_posix()
            if {relative, "${CMAKE_CURRENT_SOURCE_DIR}/" + relative} & words(cmake_file):
                return True
        if folder == top:
            return False
        folder = folder.parent


def unregistered(root):
    for top_name, patterns in REGISTERED.items():
        top = root / top_name
        for pattern in patterns.split():
            for path in sorted(top.rglob(pattern)):
                if not is_named(path, top):
                    yield path, "is named in no CMakeLists.txt"
        # A folder whose own list is never read hides everything in it.
        for cmake_file in sorted(top.glob("*/CMakeLists.txt")):
            if cmake_file.parent.name not in words(top / "CMakeLists.txt"):
                yield cmake_file, f"is not added by {top_name}/CMakeLists.txt"
    examples = root / "examples"
    for folder in sorted(p for p in examples.iterdir() if p.is_dir()):
        if folder.name not in words(examples / "CMakeLists.txt"):
            yield folder, "is not registered in examples/CMakeLists.txt"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    root = parser.parse_args().root.resolve()
    faults = [f"{path.relative_to(root)}: {text}" for path, text in unregistered(root)]
    for fault in faults:
        print(fault)
    print(f"check_tests_registered: {len(faults)} unregistered")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
