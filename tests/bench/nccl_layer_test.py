#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench/node/nccl_layer.py over gloo: layers are right on 1 to 4 ranks, kernels do what torch does, and
what cannot be measured is refused in one sentence."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

FOLDER = Path(__file__).resolve().parents[2] / "bench/node"
if __name__ == "__main__":
    # Before Triton is imported. Ranks, which import this file too, do without: theirs takes too long.
    os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(FOLDER))
try:
    import torch
    import nccl_cases
    import nccl_kernels
    import nccl_layer
    import nccl_rank
except (ImportError, SystemExit):
    torch = nccl_layer = None

# Experts, top-k, H and I, of which some are no power of two.
TINY = {"tiny": (8, 2, 64, 128), "odd": (4, 3, 96, 64)}


class MissingTest(unittest.TestCase):
    def test_no_torch_is_one_sentence(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "torch.py").write_text("raise ImportError('x', name='torch')\n", "utf-8")
            done = subprocess.run([sys.executable, FOLDER / "nccl_layer.py"], check=False, text=True,
                                  capture_output=True, env={**os.environ, "PYTHONPATH": folder})
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"^nccl_layer: the Python module torch is not there.*\n$")


@unittest.skipIf(nccl_layer is None, "PyTorch or Triton is not there")
class CommandTest(unittest.TestCase):
    def run_main(self, *arguments):
        """Exit status and stderr of the command; its ranks run no kernels."""
        err = io.StringIO()
        with mock.patch.dict(os.environ), mock.patch.object(sys, "argv", ["nccl_layer", *arguments]):
            os.environ.pop("TRITON_INTERPRET", None)
            with contextlib.redirect_stderr(err):
                code = nccl_layer.main()
        return code, err.getvalue()

    def test_refusals(self):
        for arguments, sentence in (
            (["--gpus", "9"], "--gpus: 9, allowed are 1 to 8"),
            (["--gpus", "2", "--splits", "3x1"], "'3x1', allowed are auto, or EPxTP with a product of 2"),
            (["--gpus", "2", "--splits", "two"], "'two', allowed are auto"),
            (["--gpus", "3", "--tokens", "3"], "mixtral-8x7b does not split over 3 ranks"),
            (["--gpus", "3", "--tokens", "3", "--splits", "3x1"], "which '3x1' does not divide"),
            (["--gpus", "2", "--tokens", "7"], "'7', allowed are positive multiples of the 2 ranks"),
            (["--gpus", "2", "--models", "gpt"], "'gpt', allowed are mixtral-8x7b"),
            (["--gpus", "2", "--models", "mixtral-8x7b:9"], "mixtral-8x7b has 8 experts for a token"),
            (["--gpus", "2", "--rounds", "0"], "--rounds: 0, allowed are 1 and more"),
        ):
            with self.subTest(arguments=arguments):
                code, err = self.run_main("--device", "cpu", *arguments)
                self.assertEqual(code, 1)
                self.assertRegex(err, r"^nccl_layer: [^\n]*\n$")
                self.assertIn(sentence, err)

    def test_splits(self):
        for ranks, splits in ((1, [(1, 1)]), (2, [(2, 1), (1, 2)]),
                              (8, [(8, 1), (4, 2), (2, 4), (1, 8)])):
            for model in nccl_cases.MODELS:
                self.assertEqual(nccl_cases.splits_of("auto", ranks, model), splits)
        self.assertEqual(nccl_cases.splits_of("1x2,2x1", 2, "mixtral-8x7b"), [(1, 2), (2, 1)])

    def test_models_with_another_topk(self):
        own, fewer = nccl_cases.make_cases(("qwen2-moe-2.7b", "qwen2-moe-2.7b:2"), ("64",), "2x1", 2)
        self.assertEqual((own.topk, fewer.topk), (4, 2))
        self.assertEqual(fewer, nccl_cases.dataclasses.replace(own, topk=2))

    def test_layers_are_right(self):
        with tempfile.TemporaryDirectory() as folder, mock.patch.dict(nccl_cases.MODELS, TINY, clear=True):
            path = Path(folder) / "rows.jsonl"
            code, err = self.run_main("--device", "cpu", "--gpus", "4", "--models", "tiny,odd", "--tokens",
                                      "4,256", "--rounds", "2", "--json", str(path))
            self.assertEqual((code, err), (0, ""))
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        self.assertEqual([(row["model"], row["ep"], row["tp"], row["tokens"]) for row in rows],
                         [(model, ep, 4 // ep, tokens) for model in TINY for ep in (4, 2, 1)
                          for tokens in (4, 256)])
        for row in rows:
            self.assertEqual((row["suite"], row["kind"], row["result"]), ("node", "nccl", "passed"))
            self.assertGreater(row["t_layer_us"], 0)
            self.assertGreater(row["t_communication_us"], 0)

    def test_a_wrong_result_is_a_failure(self):
        case = nccl_cases.Case("tiny", 64, *TINY["tiny"], ep=1, tp=1)
        job = nccl_cases.Job(device="cpu", ranks=1, port=nccl_layer.free_port(), cases=(case,), rounds=1,
                             graphs=True, path=None, run="", folder="")
        self.addCleanup(nccl_layer.dist.destroy_process_group)
        right = nccl_rank.combine

        def wrong(rows, positions, weights, out):
            right(rows, positions.flip(0), weights, out)

        with mock.patch.object(nccl_rank, "combine", wrong):
            with self.assertRaisesRegex(nccl_cases.Failure, "EP1 x TP1: a result of rank 0 is off by"):
                nccl_layer.work(0, job)


@unittest.skipIf(nccl_layer is None, "PyTorch or Triton is not there")
class KernelTest(unittest.TestCase):
    def both(self, function, *arguments, outs):
        """What the kernel and then what torch left in the arguments of these numbers."""
        left = []
        for interpreted in (True, False):
            with mock.patch.object(nccl_kernels, "INTERPRETED", interpreted):
                own = [a.clone() if i in outs else a for i, a in enumerate(arguments)]
                function(*own)
                left.append([own[i] for i in outs])
        return left

    def expect_equal(self, left):
        for ours, theirs in zip(*left):
            self.assertTrue(torch.equal(ours, theirs), f"{ours}\n{theirs}")

    def test_kernels_do_what_torch_does(self):
        torch.manual_seed(1)
        rows = torch.randn(5, 96).bfloat16()
        out = torch.zeros(10, 96).bfloat16()
        order = torch.randperm(10)
        self.expect_equal(self.both(nccl_kernels.gather_rows, rows, order, out, 2,
                                    torch.zeros(10, dtype=torch.int32), outs=(2, 4)))
        self.expect_equal(self.both(nccl_kernels.gather_rows, rows, order[order < 5].int(), out[:5],
                                    outs=(2,)))
        for counts in ([[3, 0, 2], [1, 4, 0]], [[2], [0], [5]], [[0, 0], [0, 0]]):
            counts = torch.tensor(counts, dtype=torch.int32)
            self.expect_equal(self.both(
                nccl_kernels.expert_major, counts, torch.full((200,), -1, dtype=torch.int32),
                torch.zeros(counts.shape[1], dtype=torch.int32), outs=(1, 2)))
        for function, arguments in (
            (nccl_kernels.silu_mul, (torch.randn(3, 2 * 40).bfloat16(), torch.zeros(3, 40).bfloat16())),
            (nccl_kernels.combine, (out.normal_(), order.int(), torch.rand(5, 4)[:, 2:],
                                  torch.zeros(5, 96).bfloat16())),
        ):
            left = self.both(function, *arguments, outs=(len(arguments) - 1,))
            torch.testing.assert_close(left[0], left[1], rtol=2**-7, atol=2**-9)


if __name__ == "__main__":
    unittest.main()
