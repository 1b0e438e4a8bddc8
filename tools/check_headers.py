#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compiles each header of a folder alone, included twice: none leans on what came before it.

Public headers (include/) see nothing but the standard library and each other; headers of src/ may
use the libraries of the build. Exits 1 if one does not compile.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def compile_alone(command, header):
    text = f'#include "{header}"\n#include "{header}"\n'
    result = subprocess.run(command, input=text, text=True, capture_output=True)
    return header, result.returncode, result.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--folder", type=Path, required=True, help="root of the headers, also -I")
    parser.add_argument("-I", dest="include", action="append", default=[], help="more to include")
    arguments = parser.parse_args()

    # version.hpp is generated: the build's include folder holds it.
    folders = [arguments.folder, *map(Path, arguments.include)]
    generated = [Path(i) for i in arguments.include if (Path(i) / "comet").is_dir()]
    roots = [arguments.folder, *generated]
    headers = sorted({p.relative_to(f).as_posix() for f in roots for p in f.rglob("*.hpp")})
    if not headers:
        print(f"check_headers: no header in {arguments.folder}")
        return 1
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
