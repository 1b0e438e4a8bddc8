# SPDX-License-Identifier: Apache-2.0
"""The command's progress as a bar of tqdm, which is at home in terminals and in notebooks."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from typing import Any

# What the command draws on a terminal: a line that it takes back, "[###.....]  40 %  what: phase" or nothing.
_LINE = re.compile(r"\r\x1b\[K(?:\[[#.]*\] +(?P<percent>\d+) %  (?P<what>[^\r]*))?(?=\r)")


def tqdm_or_none() -> Any:
    """The class for a bar here, or None where tqdm is not installed."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm


def run_with_bar(tqdm: Any, arguments: list[Any], environment: dict[str, str]) -> tuple[int, str]:
    """Runs a program whose standard error is a terminal of its own, shows its progress, and returns its exit status and
    what else it wrote there. What interrupts this ends the program too, which a notebook's interrupt does not reach."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs,
                              env=environment) as process:
            os.close(theirs)
            try:
                with tqdm(total=100, unit="%", bar_format="{desc}: {percentage:3.0f} %|{bar}| {elapsed}<{remaining}",
                          leave=False) as bar:
                    text = _follow(ours, bar)
                return process.wait(), text
            except BaseException:
                process.kill()
                raise
    finally:
        os.close(ours)


def _follow(terminal: int, bar: Any) -> str:
    """Until the program ends; what is no progress."""
    rest, others = "", []
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            piece = b""
        rest += piece.decode(errors="replace")
        end = 0
        for line in _LINE.finditer(rest):
            others.append(rest[end:line.start()])
            end = line.end()
            if line["percent"] is not None:
                bar.set_description(line["what"], refresh=False)
                bar.update(int(line["percent"]) - bar.n)
        rest = rest[end:]
        if not piece:
            return re.sub(r"\r\x1b\[K(\[[#.]*\][^\r\n]*)?|\r", "", "".join(others) + rest)
