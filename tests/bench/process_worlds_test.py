#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/cuda/process_worlds.py where there is no GPU: how it kills and stops ranks, here ranks on CPUs, and what it
says where there is no mpirun."""

import io
import os
import shutil
import signal
import sys
import unittest
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench" / "cuda"))
import process_worlds as worlds  # noqa: E402

COMET = sys.argv.pop()
ON_CPUS = ("check", "--random", "100000000")
HAS_MPI = {"worlds": [{"name": "mpi", "built": True, "detail": ""}]}


def quietly(call, *arguments):
    text = io.StringIO()
    with redirect_stdout(text):
        call(*arguments)
    return text.getvalue()


class Failures(unittest.TestCase):
    def setUp(self):
        on_cpus = mock.patch.object(worlds, "CHECK", ON_CPUS)
        on_cpus.start()
        self.addCleanup(on_cpus.stop)
        self.launch = [COMET, "launch", "--ranks", "3", "--", *ON_CPUS]

    def test_killed_and_stopped_ranks_of_comet_launch_are_named(self):
        for how in (signal.SIGKILL, signal.SIGSTOP):
            faults, took = worlds.fail_one(self.launch, 3, 1, how, 0.5)
            self.assertEqual(faults, [])
            self.assertLess(took, worlds.SECONDS_LEFT)

    def test_a_stopped_rank_is_named_as_the_cause(self):
        waits = "[publish] rank 2 waited 2000 ms for rank 1 to enter call 7, seen call 6"
        for output, victim, is_named in ((f"{waits}; cause: rank 1, in plan of call 6", 1, True),
                                         (f"{waits}; cause: rank 0, in plan of call 6", 1, False),
                                         (f"{waits}; cause: rank 10, in plan of call 6", 1, False),
                                         ("[world] rank 2 waited 2000 ms in barrier for ranks 0, 1", 1, True),
                                         ("[world] rank 2 waited 2000 ms in barrier for rank 1", 2, False)):
            self.assertEqual(worlds.is_named(output, victim, signal.SIGSTOP), is_named, output)

    def test_another_name_is_a_fault(self):
        ranks_of = worlds.ranks_of
        with mock.patch.object(worlds, "ranks_of", lambda starter: ranks_of(starter)[::-1]):
            faults, _ = worlds.fail_one(self.launch, 3, 0, signal.SIGKILL, 0.5)
        self.assertIn("rank 0 is not named", faults[0])

    @unittest.skipUnless(shutil.which("mpirun"), "no mpirun")
    def test_a_killed_rank_of_mpirun_is_named(self):
        for victim in (0, 2):
            faults, took = worlds.fail_one(worlds.by_mpirun(COMET, 3), 3, victim, signal.SIGKILL, 1.0)
            self.assertEqual(faults, [])
            self.assertLess(took, worlds.SECONDS_LEFT)

    def test_without_mpirun_it_is_a_row_that_says_so(self):
        report = worlds.Report("no GPU", 0)
        with mock.patch.dict(os.environ, {"PATH": ""}):
            text = quietly(worlds.check_mpirun, COMET, report, SimpleNamespace(mpi_kills=3), HAS_MPI)
        self.assertIn("skipped: no mpirun on PATH: apt-get install openmpi-bin", text)
        self.assertEqual(report.wrong, [])

    def test_claims_are_told_from_faults(self):
        report = worlds.Report("no GPU", 0)
        text = quietly(lambda: report.add("times", [], "a case", claims=["too slow"]))
        self.assertEqual((report.wrong, report.claims), ([], ["too slow"]))
        self.assertIn("BROKEN: too slow", text)


if __name__ == "__main__":
    unittest.main()
