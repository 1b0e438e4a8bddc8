# SPDX-License-Identifier: Apache-2.0
"""Rows of results: where they come from, and files of them."""

import datetime
import importlib.metadata
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def commit():
    """Of the sources: what COMET_COMMIT says, else git, with -dirty if they differ from it; else "unknown"."""
    if "COMET_COMMIT" in os.environ:
        return os.environ["COMET_COMMIT"]
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"], cwd=FOLDER,
                              check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


class RowFile:
    """Rows of one run: each is kept, and appended to a file at once if there is one."""

    def __init__(self, suite, device, path):
        """`device`: what computes, by name. `path`: of the file, or None."""
        self._same = {"suite": suite, "device": device, "torch": importlib.metadata.version("torch"),
                      "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]), "commit": commit(), "run": now()}
        self._path = path
        self.rows = []

    def append(self, **row):
        row = {**self._same, **row, "date": now()}
        self.rows.append(row)
        if self._path:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def read_rows(path, suite):
    """A suite's rows of a file; ValueError with one sentence if there are none, or it is no file of rows."""
    try:
        rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    rows = [row for row in rows if row.get("suite") == suite]
    if not rows:
        raise ValueError(f"{path}: no row of suite {suite}")
    return rows
