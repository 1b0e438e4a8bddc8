#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compiles each header of a folder alone, included twice: none leans on what came before it.

Public headers (include/) see nothing but the standard library and each other; headers of src/ may
use the libraries of the build, and are skipped where their own source includes them first. Exits 1
if one does not compile.
"""

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


# Sources of these folders are compiled several as one in all builds, so they prove nothing.
MERGED = ("cli/",)


def is_first_include_of_its_source(folder, header):
    """X.cpp that begins with X.hpp has proved already that the header stands alone."""
    if header.startswith(MERGED):
        return False
    source = (folder / header).with_suffix(".cpp")
    if not source.is_file():
        return False
    match = re.search(r'^#include\s*[<"]([^>"]+)[>"]', source.read_text(encoding="utf-8"), re.M)
    return match is not None and match.group(1) == header


def compile_alone(command, header):
    text = f'#include "{header}"\n#include "{header}"\n'
    result = subprocess.run(command, input=text, text=True, capture_output=True)
    return header, result.returncode, result.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--folder", type=Path, required=True, help="root of the headers, also -I")
    parser.add_argument("-I", dest="include", action="append", default=[], help="more to include")
    parser.add_argument("--skip-proved", action="store_true", help="X.hpp that X.cpp includes first")
    arguments = parser.parse_args()

    # version.hpp is generated: the build's include folder holds it.
    folders = [arguments.folder, *map(Path, arguments.include)]
    generated = [Path(i) for i in arguments.include if (Path(i) / "comet").is_dir()]
    roots = [arguments.folder, *generated]
    headers = sorted({p.relative_to(f).as_posix() for f in roots for p in f.rglob("*.hpp")})
    if not headers:  # A check that looks at nothing must not pass.
        print(f"check_headers: no header in {arguments.folder}")
        return 1
    if arguments.skip_proved:
        headers = [h for h in headers if not is_first_include_of_its_source(arguments.folder, h)]
    command = [arguments.compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
    command += [f"-I{folder}" for folder in folders] + ["-x", "c++", "-"]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda header: compile_alone(command, header), headers))
    faults = [(header, message) for header, code, message in results if code != 0]
    for header, message in faults:
        print(f"{header} does not compile alone:\n{message}")
    print(f"check_headers: {len(headers)} headers, {len(faults)} fault(s)")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
