#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Says whether the GPU rows in bench/results are evidence for the sources as they are.

One line per suite: of its newest run all rows must have passed and carry the hash of today's sources
(evidence.py). Exits 1 if a suite is not ok or a line is damaged.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import evidence

DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class DamagedLine(Exception):
    """A line that cannot be judged; the text names file, line and what is wrong."""


def read_row(line):
    """The row of one line, or None if it is of a suite that needs no GPU."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DamagedLine(f"is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise DamagedLine("is no JSON object")
    if row.get("suite") not in evidence.SUITES:
        return None
    for field in ("evidence", "run", "date", "result"):
        if not isinstance(row.get(field), str):
            raise DamagedLine(f'lacks the text field "{field}"')
    if not DATE.fullmatch(row["date"]):
        raise DamagedLine(f"has the date {row['date']}, allowed is YYYY-MM-DDTHH:MM:SSZ")
    if row["result"] not in ("passed", "failed"):
        raise DamagedLine(f'has the result "{row["result"]}", allowed are passed and failed')
    return row


def read_rows(root):
    """All GPU rows, in the order of files and lines."""
    rows = []
    for path in sorted((root / "bench" / "results").glob("*.jsonl")):
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            if not line.strip():
                continue
            try:
                row = read_row(line)
            except DamagedLine as error:
                raise DamagedLine(f"{path.relative_to(root)}:{number}: the line {error}") from error
            if row is not None:
                rows.append(row)
    return rows


def judge(rows, source_hash):
    """Verdict on the rows of one suite."""
    if not rows:
        return "no rows"
    run = max(reversed(rows), key=lambda row: row["date"])["run"]  # Of equal dates the last line.
    newest = [row for row in rows if row["run"] == run]
    for row in newest:
        if row["evidence"] != source_hash:
            return f"rows are of other sources ({row['evidence']}, {source_hash})"
    if any(row["result"] == "failed" for row in newest):
        return "failed"
    return "ok"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    root = parser.parse_args().root.resolve()
    try:
        rows = read_rows(root)
        hashes = evidence.all_hashes(root)
    except (DamagedLine, OSError, ValueError) as error:
        print(f"check_evidence: {error}", file=sys.stderr)
        return 1
    verdicts = {
        suite: judge([row for row in rows if row["suite"] == suite], source_hash)
        for suite, source_hash in hashes.items()
    }
    for suite, verdict in verdicts.items():
        print(f"{suite}: {verdict}")
    return 0 if all(verdict == "ok" for verdict in verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
