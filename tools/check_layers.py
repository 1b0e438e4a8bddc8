#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Keeps the include table of the source tree true: which folder may include which.

Prints one line per violation and exits 1 if there is any. The tables below are the documentation of
the layering; CONTRIBUTING.md points here.
"""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layer:
    """Folders (besides itself and the public headers) that a folder may include, and why."""

    may_include: frozenset
    reason: str
    public: frozenset = None  # Names in include/comet it may include; None allows all of them.


def layer(folders, reason, public=None):
    named = None if public is None else frozenset(public.split())
    return Layer(frozenset(folders.split()), reason, named)


# Folders that the folders beside them may include.
FOR_SIBLINGS = {"comm/process", "comm/net"}  # worlds of processes, whoever starts them

LAYERS = {
    "base": layer(
        "",
        "knows no MoE: checks, integers, names of enums; all others build on it",
        public="desc.hpp dtype.hpp error.hpp tensor_view.hpp trace.hpp weights.hpp",
    ),
    "layout": layer("base", "bytes follow from descriptions alone, so that ranks allocate alike"),
    "routing": layer("base", "router rules know neither plans nor ranks"),
    "comm": layer("base", "worlds move bytes and signals; they do not know what for"),
    "io": layer("base", "files know tensors by name, no models"),
    "models": layer(
        "base io", "checkpoints become public descriptions; routers only through comet/router.hpp"
    ),
    "plan": layer("base layout routing", "pure data in, data out: no threads, no worlds"),
    "tune": layer(
        "base layout io",
        "chooses a layer's options from profiles, which are files, and a model of the machine; "
        "measuring and verifying are handed in",
    ),
    "backend": layer(
        "base layout plan comm", "executes plans; never sees the layer that calls it"
    ),
    "layer": layer(
        "base layout routing plan comm backend tune",
        "the only place that sees all of the above",
    ),
    "check": layer(
        "base routing comm layer", "an oracle that shared code with a backend would share its faults"
    ),
    "measure": layer(
        "base layout plan layer check tune",
        "times what the layer does; layout and plans tell it the tiles that the layer will use, tune "
        "what is worth trying",
    ),
    "trace": layer("base io measure", "shows what a call recorded, however it came about"),
    "cli": layer(
        "base layout routing comm io models tune layer check measure trace",
        "a user of the library: how plans are made and executed is none of its business",
    ),
}

# Headers and sources with a stricter rule than their folder's, of which they may include their own header alone.
STRICT = {
    "src/check/oracle": layer(
        "base", "the independent truth shares nothing but base types with the product"
    ),
}

# Folders that may include a third-party library, by the first part of the included path. What is
# not here is not used.
EVERY_FOLDER = frozenset(LAYERS)
THIRD_PARTY = {
    "fmt": (EVERY_FOLDER, "g++ 12 has no <format>"),
    "nlohmann": (
        frozenset("plan io models tune layer check measure trace cli".split()),
        "JSON stays out of base and of the data path",
    ),
    "dnnl": (frozenset(["backend"]), "the GEMM library is a detail of one backend"),
    "oneapi": (frozenset(["backend"]), "the GEMM library is a detail of one backend"),
    "CLI": (frozenset(["cli"]), "only the command parses arguments"),
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
STANDARD = re.compile(r"^[a-z_0-9]+$")  # <vector>, and not <sys/mman.h> or <fmt/format.h>
SUFFIXES = {".hpp", ".cpp", ".cuh", ".cu", ".in"}


def includes(path):
    """(line number, quote or angle, included path) of every include of a file."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1), match.group(2)


def sources(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in SUFFIXES)


class Checker:
    def __init__(self, root):
        self.root = root
        self.src = root / "src"
        self.public = {p.name for p in sources(root / "include" / "comet")}
        self.public |= {name[: -len(".in")] for name in self.public if name.endswith(".in")}
        self.faults = []

    def fault(self, path, line, text):
        self.faults.append(f"{path.relative_to(self.root)}:{line}: {text}")

    def check_public_headers(self):
        for path in sources(self.root / "include"):
            for line, kind, name in includes(path):
                if kind == "<" and not STANDARD.match(name):
                    self.fault(path, line, f"public headers include only std, not <{name}>")
                elif kind == '"' and not (name.startswith("comet/") and name[6:] in self.public):
                    self.fault(path, line, f'public headers include only comet/, not "{name}"')

    def check_folder(self, name, rule, folder):
        for path in sources(folder):
            for line, kind, target in includes(path):
                if kind == "<":
                    self.check_angle(path, line, name, target)
                else:
                    self.check_quote(path, line, name, rule, target)

    def check_angle(self, path, line, name, target):
        head = target.split("/")[0].removesuffix(".hpp")
        if head == "comet" or (self.src / target).is_file():
            self.fault(path, line, f'our own header in angle brackets: write "{target}"')
        elif name in LAYERS and head in THIRD_PARTY and name not in THIRD_PARTY[head][0]:
            self.fault(path, line, f"{name} may not include <{target}>: {THIRD_PARTY[head][1]}")
        elif name in LAYERS and target.endswith((".hpp", ".hxx")) and head not in THIRD_PARTY:
            self.fault(path, line, f"<{target}> is of no library that the THIRD_PARTY table knows")

    def check_quote(self, path, line, name, rule, target):
        parts = target.split("/")
        if parts[0] == "comet":
            if "/".join(parts[1:]) not in self.public:
                self.fault(path, line, f'no public header "{target}"')
            elif rule.public is not None and parts[-1] not in rule.public:
                self.fault(path, line, f'{name} may not include "{target}": {rule.reason}')
            return
        if not any((base / target).is_file() for base in (self.src, self.root / "tests")):
            self.fault(path, line, f'"{target}" is neither a public header nor relative to src/')
            return
        own = name.split("/")[-1]
        if parts[0] != own and parts[0] not in rule.may_include:
            self.fault(path, line, f'{name} may not include "{target}": {rule.reason}')
        elif parts[0] == own and name in LAYERS:
            self.check_siblings(path, line, parts)

    def check_siblings(self, path, line, parts):
        """backend/cpu and backend/ref, or comm/local and comm/mpi, stay apart."""
        mine = path.relative_to(self.src).parts
        if "/".join(parts[:2]) in FOR_SIBLINGS:
            return
        if len(mine) > 2 and len(parts) > 2 and mine[1] != parts[1]:
            self.fault(path, line, f"{mine[0]}/{mine[1]} may not include its sibling {parts[1]}")

    def check_strict(self, stem, rule):
        files = [p for p in sources(stem.parent) if p.with_suffix("") == stem]
        if stem.parent.is_dir() and not files:
            self.fault(stem, 1, "no file of this name, which the STRICT table has")
        own = f"{stem.relative_to(self.src)}.hpp"
        for path in files:
            for line, kind, target in includes(path):
                allowed = {"comet", *rule.may_include}
                if kind == '"' and target != own and target.split("/")[0] not in allowed:
                    self.fault(path, line, f'{stem.name} may not include "{target}": {rule.reason}')

    def run(self):
        self.check_public_headers()
        for folder in sorted(p for p in self.src.iterdir() if p.is_dir()):
            if folder.name in LAYERS:
                self.check_folder(folder.name, LAYERS[folder.name], folder)
            elif sources(folder):
                self.fault(folder, 1, "this folder is not in the LAYERS table")
        for stem, rule in STRICT.items():
            self.check_strict(self.root / stem, rule)
        return self.faults


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    faults = Checker(parser.parse_args().root.resolve()).run()
    for fault in faults:
        print(fault)
    print(f"check_layers: {len(faults)} violation(s)")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
