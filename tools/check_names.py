#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Finds functions of src/ whose name is taken once in a header and once in an unnamed namespace.

Some builds compile several sources as one (preset merged). There the one in the unnamed namespace
would silently be called in place of the header's. Prints one line per name and exits 1 if there is
any.
"""

import argparse
import re
import sys
from pathlib import Path

# At the beginning of a line: type, name, parenthesis.
FUNCTION = re.compile(r"^[A-Za-z_][\w:<>,&*\s\[\]]*?[\s&*>](\w+)\(", re.M)
UNNAMED = re.compile(r"^namespace \{\n(.*?)^\}  // namespace$", re.M | re.S)


def functions(text):
    return {match.group(1) for match in FUNCTION.finditer(text)}


def texts(root, pattern):
    for folder in ("include", "src"):
        for path in sorted((root / folder).rglob(pattern)):
            yield path, path.read_text(encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    root = parser.parse_args().root.resolve()
    declared = {}
    for path, text in texts(root, "*.hpp"):
        declared.update(dict.fromkeys(functions(text), path.relative_to(root)))
    faults = 0
    for path, text in texts(root, "*.cpp"):
        own = functions("".join(UNNAMED.findall(text)))
        for name in sorted(own & declared.keys()):
            print(f"{path.relative_to(root)}: {name} is also in {declared[name]}")
            faults += 1
    print(f"check_names: {faults} name(s) taken twice")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
