# SPDX-License-Identifier: Apache-2.0
"""Runs cases by `comet bench` in one process, and keeps rows in a file.

A case is a line of flags. The rows that come back say which case they are of, and whether their link is
EMULATED.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

SUITE = "adaptive"
INTERRUPTED = 130  # exit code of a command that finished the case in hand
GRACE_S = 120  # that a case in hand may take before its process is killed


class Failure(Exception):
    """What went wrong, in one sentence."""


def say(text):
    print(text, flush=True)


def is_emulated(link):
    """Whether the bench paces it."""
    return link.startswith("paced")


def read_rows(path):
    """The rows of a file, or none if it is not there."""
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise Failure(f"{path}:{number}: no JSON: {error}") from error
    return rows


def write_rows(path, rows):
    """The file is replaced as a whole."""
    temporary = path.with_suffix(".new")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    os.replace(temporary, path)


def run_command(command, seconds=None, on_line=None):
    """Runs a command, asks it to stop after so many seconds, and returns its exit code.

    `on_line` gets each line of its output; without it they are printed, indented.
    """
    show = on_line or (lambda line: say("    " + line))
    try:
        process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    except OSError as error:
        raise Failure(f"{command[0]}: {error.strerror}") from error
    timers = []
    if seconds is not None:
        timers = [threading.Timer(max(0.0, seconds), process.send_signal, [signal.SIGINT]),
                  threading.Timer(max(0.0, seconds) + GRACE_S, process.kill)]
    with process:
        try:
            for timer in timers:
                timer.start()
            for line in process.stdout:
                show(line.rstrip("\n"))
            return process.wait()
        except KeyboardInterrupt:  # the command has been told too, and finishes the case in hand
            process.wait(GRACE_S)
            return INTERRUPTED
        finally:
            for timer in timers:
                timer.cancel()
            if process.poll() is None:
                process.kill()


def run_cases(comet, shared, lines, seconds=None, on_line=None):
    """Rows of each line, as {line: rows}, and whether all lines were run.

    `shared` are flags of all lines, `on_line` as of run_command. A case that fails ends with Failure, which has the rows of the
    cases before it as `rows`.
    """
    with tempfile.TemporaryDirectory() as folder:
        cases, path = Path(folder) / "cases", Path(folder) / "rows.jsonl"
        cases.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        code = run_command([comet, "bench", *shared, "--cases", cases, "--json", path], seconds,
                           on_line)
        found = {}
        for row in read_rows(path):
            typed = row["command"]
            line = max((line for line in lines if typed.endswith(" " + line)), key=len)
            row["command"] = " ".join(["comet", "bench", *shared, line])
            row["link_emulated"] = is_emulated(row["link"])
            found.setdefault(line, []).append(row)
    if code not in (0, INTERRUPTED):
        failure = Failure(f"comet bench {' '.join(shared)}: exit {code}")
        failure.rows = found
        raise failure
    return found, code == 0


def main_of(function):
    """Runs a program's main; a Failure is one line on standard error and exit code 1."""
    try:
        return function()
    except Failure as failure:
        print(f"{Path(sys.argv[0]).name}: {failure}", file=sys.stderr)
        return 1
