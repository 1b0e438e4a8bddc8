# SPDX-License-Identifier: Apache-2.0
"""Runs cases by `comet bench` in one process, and keeps rows in a file.

A case is a line of flags. The rows that come back say which case they are of, and whether their link is
EMULATED. A case that fails is named and left out; the others go on in a new process.
"""

import argparse
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SUITE = "adaptive"
INTERRUPTED = 130  # exit code of a command that finished the case in hand
GRACE_S = 120  # that a case in hand may take before its process is killed
MOST_IN_VAIN = 2  # processes in a row that may end without a case done
REFUSED_LINE = re.compile(r"\[cases\] .+? line (\d+): (.*)")  # what comet bench says of a line that is no case


class Failure(Exception):
    """What went wrong, in one sentence."""


class Deadline:
    """The time until a program should have stopped; none if `seconds` is None."""

    def __init__(self, seconds):
        self.end = None if seconds is None else time.monotonic() + seconds

    def left(self):
        return None if self.end is None else self.end - time.monotonic()

    def is_over(self):
        return self.end is not None and self.left() <= 0


def say(text):
    print(text, flush=True)


def is_emulated(link):
    """Whether the bench paces it."""
    return link.startswith("paced")


def read_rows(path):
    """The rows of a file, or none if it is not there."""
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise Failure(f"{path}: no text: {error}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise Failure(f"{path}:{number}: no JSON: {error}") from error
        if not isinstance(row, dict):
            raise Failure(f"{path}:{number}: no JSON object")
        rows.append(row)
    return rows


def rows_of(path):
    """The rows of a file that somebody has named."""
    if not path.exists():
        raise Failure(f"{path}: no such file")
    return read_rows(path)


def write_rows(path, rows):
    """The file is replaced as a whole."""
    temporary = path.with_suffix(".new")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    os.replace(temporary, path)


def show(line):
    """Prints a line of a command's output, indented."""
    say("    " + line)


def run_command(command, seconds=None, on_line=show):
    """Runs a command, asks it to stop after so many seconds; its exit code, and what it says went wrong, or "".

    `on_line` gets each line of its output.
    """
    try:
        process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        raise Failure(f"{command[0]}: {error.strerror}") from error
    timers = []
    if seconds is not None:
        timers = [threading.Timer(max(0.0, seconds), process.send_signal, [signal.SIGINT]),
                  threading.Timer(max(0.0, seconds) + GRACE_S, process.kill)]
    said = ""
    with process:
        try:
            for timer in timers:
                timer.start()
            for line in process.stdout:
                if line.startswith("comet: "):
                    said = line.removeprefix("comet: ").rstrip("\n")
                on_line(line.rstrip("\n"))
            return process.wait(), said
        except KeyboardInterrupt:  # the command has been told too, and finishes the case in hand
            process.wait(GRACE_S)
            return INTERRUPTED, said
        finally:
            for timer in timers:
                timer.cancel()
            if process.poll() is None:
                process.kill()


def json_of(name, command):
    """What a command prints as JSON; Failure with `name` and its last words if it fails."""
    try:
        done = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True)
    except OSError as error:
        raise Failure(f"{command[0]}: {error.strerror}") from error
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()
        raise Failure(f"{name}: {words[-1] if words else f'exit {done.returncode}'}")
    return json.loads(done.stdout)


class Output:
    """The rows that a process of `comet bench` has written, by their case, handed on as they come."""

    def __init__(self, path, shared, lines, keep):
        self.path, self.shared, self.lines, self.keep = path, shared, lines, keep
        self.num_read, self.size = 0, 0
        self.done = []  # cases

    def look(self):
        """Takes what is new. The rows of a case come together."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size == self.size:
            return
        rows = read_rows(self.path)
        fresh = {}
        for row in rows[self.num_read:]:
            typed = row["command"]
            line = max((line for line in self.lines if typed.endswith(" " + line)), key=len)
            row["command"] = " ".join(["comet", "bench", *self.shared, line])
            row["link_emulated"] = is_emulated(row["link"])
            fresh.setdefault(line, []).append(row)
        self.num_read, self.size = len(rows), size
        for line, of_line in fresh.items():
            self.done.append(line)
            self.keep(line, of_line)


def run_process(comet, shared, lines, seconds, keep, on_line):
    """One process for the lines; its exit code, what went wrong, and the lines that it did."""
    with tempfile.TemporaryDirectory() as folder:
        cases, path = Path(folder) / "cases", Path(folder) / "rows.jsonl"
        cases.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        output = Output(path, shared, lines, keep)

        def take(line):
            output.look()
            on_line(line)

        code, said = run_command([comet, "bench", *shared, "--cases", cases, "--json", path], seconds, take)
        output.look()
    return code, said or f"exit {code}", output.done


def run_cases(comet, shared, lines, keep, seconds=None, on_line=show):
    """Runs the lines, and has keep(line, rows) called for each as soon as it is done. Returns {line: what went wrong}
    of the cases that failed, and whether all were run.

    `shared` are flags of all lines, `on_line` as of run_command.
    """
    deadline, failed, rest, num_in_vain = Deadline(seconds), {}, list(lines), 0
    while rest:
        if deadline.is_over():
            return failed, False
        tried = rest
        code, said, done = run_process(comet, shared, tried, deadline.left(), keep, on_line)
        rest = [line for line in tried if line not in done]
        if code == 0:
            break
        if code == INTERRUPTED or deadline.is_over():
            return failed, False
        num_in_vain = 0 if done else num_in_vain + 1
        refused = REFUSED_LINE.fullmatch(said)
        case, said = (tried[int(refused[1]) - 1], refused[2]) if refused else (rest[0], said)
        rest.remove(case)
        failed[case] = said
        if num_in_vain > MOST_IN_VAIN:
            failed.update(dict.fromkeys(rest, f"not tried: {said}"))
            break
    return failed, True


def seconds_of(text):
    """The value of a flag --seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}', a number of at least 0")
    return seconds


def check_command(comet):
    """Failure unless it can be run: said before anything of an earlier run is replaced."""
    if shutil.which(str(comet)) is None:
        raise Failure(f"{comet}: no such command")


def main_of(function):
    """Runs a program's main, and returns the exit code.

    A Failure, and a file that cannot be read or written, is one line on standard error and exit code 1. After Ctrl-C, and where
    nobody reads the output to its end (`| head`), a program ends quietly with the code that a shell shows for that signal.
    """
    try:
        return function()
    except Failure as failure:
        sentence = str(failure)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # What the stream still has would fail once more when Python flushes it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        sentence = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    print(f"{Path(sys.argv[0]).name}: {sentence}", file=sys.stderr)
    return 1
