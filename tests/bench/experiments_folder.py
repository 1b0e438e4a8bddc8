# SPDX-License-Identifier: Apache-2.0
"""Where the scripts of bench/experiments are, how a test starts one, and what layer is small enough. Their modules can be
imported after this one."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "bench" / "experiments"
TINY = "--experts 4 --topk 2 --hidden 32 --intermediate 64"
sys.path.insert(0, str(FOLDER))


def start(script, *arguments):
    """A program of the folder; its exit code, standard output and standard error."""
    done = subprocess.run([sys.executable, FOLDER / script, *map(str, arguments)], check=False,
                          capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr
