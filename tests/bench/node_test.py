#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/node.sh on two GPUs that are none: which parts run, with what, what rows they leave, what the tables say of
them, and that what fails holds up nothing else."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from fake_node import make_suite


class Node(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.root = Path(scratch.name)
        self.suite, self.out, self.record = self.root / "suite", self.root / "out", self.root / "record"
        self.suite.mkdir()
        make_suite(self.suite)

    def run_node(self, *arguments, **environment):
        """Exit code and output."""
        hidden = ("CUDA_VISIBLE_DEVICES", "NVSHMEM_DISABLE_NVLS", "NCCL_NVLS_ENABLE", "COMET_FORCE_PUTS")
        own = {name: value for name, value in os.environ.items() if name not in hidden}
        done = subprocess.run(["bash", self.suite / "node.sh", self.out, *arguments], check=False, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env={**own, "PATH": f"{self.suite / 'programs'}:{os.environ['PATH']}", "TMPDIR": str(self.root),
                                   "FAKE_RECORD": str(self.record), **environment})
        return done.returncode, done.stdout

    def rows(self):
        return [json.loads(line) for line in (self.out / "rows.jsonl").read_text(encoding="utf-8").splitlines()]

    def started(self):
        return [json.loads(line) for line in self.record.read_text(encoding="utf-8").splitlines()]

    def test_all_parts_leave_rows_tables_and_a_profile(self):
        code, output = self.run_node()
        self.assertEqual(code, 0, output)
        rows = self.rows()
        self.assertTrue(all(row.get("gpus", 2) == 2 for row in rows))
        self.assertEqual({row["kind"] for row in rows},
                         {"topology", "link", "signal", "timer", "gtest", "check", "bits", "kill", "stop", "times", "layer", "nccl", "few", "scale", "sweep"})
        layers = {(row["model"], row["topk"], row["tokens"], row["ep"]) for row in rows if row["kind"] == "layer"}
        self.assertEqual(len(layers), 3 * 5 * 2 + 4 * 2)
        few = {(row["model"], row["tokens"], row["ep"]) for row in rows if row["kind"] == "few"}
        self.assertEqual(len(few), 3 * 3 * 2)
        sweep = [row for row in rows if row["kind"] == "sweep"]
        self.assertEqual(len(sweep), 4 * (4 + 3 * 4 + 5 + 5))
        processes = [row for row in rows if row["suite"] == "processes"]
        self.assertEqual({row["evidence"] for row in processes}, {"0002"})
        self.assertEqual([(row["ranks"], row["puts_forced"]) for row in processes if row["kind"] == "bits"], [(2, False), (2, True)])
        self.assertEqual({(row["ranks"], row["split"], row["link"]) for row in processes if row["kind"] == "times"},
                         {(2, "2x1", "native")})
        self.assertTrue((self.out / "profile.json").read_text(encoding="utf-8"))
        summary = (self.out / "summary.md").read_text(encoding="utf-8")
        self.assertNotIn("not judged", summary)
        # 4e8 / 2 bytes, half of them a rank's, at 300 GB/s: 0.33 ms of the 1.0 of computation.
        self.assertIn("| qwen2-moe-2.7b top-2 | 32768 | EP2 x TP1 | 1.000 | 0.333 | 2.000 | 0.50 |", summary)
        self.assertIn("| qwen2-moe-2.7b | 256 | EP2 x TP1 | 1000 | 2000 | 1650 | 1400 | 1100 | `comet` | 1.82 |", summary)
        self.assertIn("holds: over NCCL where it communicates for 40% or more: 1.82 in 8 cases", summary)
        self.assertIn("processes, bits, 2 ranks, puts forced, passed", summary)
        self.assertIn("timer of GPU 1: 12.3 us ahead of GPU 0's, and -0.250 us more each second", summary)

    def test_gains_are_set_beside_those_of_older_rows(self):
        code, output = self.run_node("grid")
        self.assertEqual(code, 0, output)
        older = self.root / "older.jsonl"
        rows = self.rows()
        for row in rows:
            if row["schedule"] == "comet" and row["tp"] == 2:
                row["t_layer_us"] *= 0.5 if row["tokens"] == 4096 else 0.8
        older.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        tables = self.suite / "node" / "node_tables.py"
        done = subprocess.run([sys.executable, tables, self.out / "rows.jsonl", "--before", older], check=True, text=True,
                              stdout=subprocess.PIPE)
        self.assertIn("| EP | 19 | 1.000 | 1.000 | 1.000 |", done.stdout)
        self.assertIn("| TP | 19 | 0.743 | 0.500 | 0.800 |", done.stdout)  # 3 cases of 19 by a half, the others by a fifth
        self.assertIn("| TP, the paper's models | 5 | 0.728 | 0.500 | 0.800 |", done.stdout)

    def test_multicast_is_off_and_launches_take_both_gpus(self):
        code, output = self.run_node("processes")
        self.assertEqual(code, 0, output)
        for start in self.started():
            self.assertEqual((start["NVSHMEM_DISABLE_NVLS"], start["NCCL_NVLS_ENABLE"]), ("1", "0"))
            self.assertEqual(start["CUDA_VISIBLE_DEVICES"], "0,1")
            if start["words"][0] == "launch":
                self.assertEqual(start["words"][1:5], ["--ranks", "2", "--gpus", "2"])

    def test_the_scale_model_has_one_gpu_and_a_share_of_the_link(self):
        code, output = self.run_node("link", "scale")
        self.assertEqual(code, 0, output)
        self.assertEqual({start["CUDA_VISIBLE_DEVICES"] for start in self.started()}, {"0"})
        self.assertEqual({row["link"] for row in self.rows() if row["kind"] == "scale"}, {"paced:150.0"})

    def test_a_case_that_fails_holds_up_no_other(self):
        code, output = self.run_node("grid", "link", "sweep", FAKE_FAIL="--model phi-3.5-moe")
        self.assertEqual(code, 1, output)
        self.assertIn("node: failed: grid (exit 1, see grid.log)", output)
        self.assertIn("phi-3.5-moe 16384 EP2xTP1 FAILED", output)
        rows = self.rows()
        self.assertEqual(len({(row["model"], row["topk"], row["tokens"], row["ep"]) for row in rows if row["kind"] == "layer"}),
                         2 * 5 * 2 + 4 * 2)
        self.assertTrue(any(row["kind"] == "sweep" for row in rows))

    def test_a_line_that_fails_leaves_those_before_and_after_it(self):
        code, output = self.run_node("sweep", FAKE_FAIL="--n-c-dispatch 4")
        self.assertEqual(code, 1, output)
        sweep = [row for row in self.rows() if row["kind"] == "sweep"]
        self.assertEqual(len(sweep), 4 * (4 + 3 * 4 + 5 + 4))
        self.assertIn("comet, warps          ms: 1: 1.100, 2: 1.100, 4: 1.100, 8: 1.100", output)
        self.assertIn("comet, warps, 4 waves ms: 1: 1.100, 2: 1.100, 4: 1.100, 8: 1.100", output)
        self.assertIn("pipelined, n_c        ms: 2: 1.400, 8: 1.400, 16: 1.400, 32: 1.400", output)

    def test_what_has_no_time_is_named(self):
        code, output = self.run_node("--seconds", "10", "grid")
        self.assertEqual(code, 0, output)
        self.assertIn("no time for 38: mixtral-8x7b 16384 EP2xTP1; ", output)

    def test_what_takes_longest_is_tested_last(self):
        code, output = self.run_node("tests")
        self.assertEqual(code, 0, output)
        self.assertEqual([(row["program"], row["result"]) for row in self.rows()],
                         [("comet check", "passed"), ("cuda_layer_test", "passed"), ("cuda_conformance_test", "passed")])

    def test_unknown_parts_are_one_sentence(self):
        code, output = self.run_node("nothing")
        self.assertEqual(code, 1)
        self.assertRegex(output, r"^node: no part 'nothing': allowed are topology link tests processes [^\n]*\n$")


if __name__ == "__main__":
    unittest.main()
