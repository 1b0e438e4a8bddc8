#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How the tuner and the model are judged: the grid of bench/experiments on a tiny layer on the CPU, its slices, the model's
choices by stored sweeps, and claims. argv[1] is the command."""

import argparse
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

from experiments_folder import ROOT, TINY, start

import bench_cases
import claims
import model_choices
import tuner_grid

COMET = None


class Grid(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = Path(folder.name)

    def test_the_tuner_is_judged_in_slices(self):
        arguments = ("--comet", COMET, "--backend", "cpu", "--out", self.out, "--models", "phi-3.5-moe",
                     "--tokens", "32", "--splits", "2x1", "--links", "native", "--n-c", "1,2",
                     "--flags", f"{TINY} --workers 2")
        code, text, _ = start("tuner_grid.py", *arguments, "--seconds", "0")
        self.assertEqual(code, 0)
        self.assertIn("the same command goes on", text)
        code, text, errors = start("tuner_grid.py", *arguments)
        self.assertEqual(code, 0, errors)
        self.assertIn("1 cases; all choices", text)
        row = bench_cases.read_rows(self.out / "tuner.jsonl")[0]
        self.assertIn(row["tuned"], row["finals"])
        self.assertIn(row["by_model"], row["sweep"])
        self.assertEqual(len({choice.split(":")[2] for choice in row["sweep"]} & {"1/2", "2/2", "2/1"}), 3)
        self.assertIn("tuned_loss", bench_cases.read_rows(self.out / "tuner_rows.jsonl")[1])
        begun = (self.out / "tuner.jsonl").read_bytes()
        self.assertEqual(start("tuner_grid.py", *arguments)[0], 0)
        self.assertEqual((self.out / "tuner.jsonl").read_bytes(), begun, "nothing was left to do")
        code, text, errors = start("tuner_grid.py", "--comet", "/nowhere", "--rows", self.out / "tuner.jsonl",
                                   "--out", self.out / "again")
        self.assertEqual((code, errors), (0, ""))
        self.assertIn("1 cases; all choices", text)
        self.assertEqual(bench_cases.read_rows(self.out / "again" / "tuner_rows.jsonl"), bench_cases.read_rows(self.out / "tuner_rows.jsonl"))

    def test_the_model_is_judged_by_stored_sweeps(self):
        case = {"kind": "case", "model": "mixtral-8x7b", "tokens": 2048, "ep": 8, "tp": 1, "link": "paced:45"}
        choice, predicted_us = tuner_grid.preferred(COMET, ["--machine", "h200"], case)
        self.assertRegex(choice, "^[1248]:(512|1024):16/16:warps$")
        sweep = {choice: 2 * predicted_us, "3:512:16/16:warps": 1.6 * predicted_us}
        bench_cases.write_rows(self.out / "tuner.jsonl", [
            {**case, "sweep": sweep}, {**case, "sweep": {"3:512:16/16:warps": 1.0}}, case, {"kind": "experiment"}])
        code, text, errors = start("model_choices.py", self.out / "tuner.jsonl", "--comet", COMET, "--machine", "h200")
        self.assertEqual((code, errors), (0, ""))
        self.assertIn(f"{choice}, 25.0% slower than 3:512:16/16:warps", text)
        self.assertIn("1 cases: the model's choice is within 8% of the best in 0%, 25.0% slower on average", text)
        self.assertIn("predicted 50.0% off in the median", text)
        self.assertIn("1 cases: the model's choice was not timed.", text)
        code, _, errors = start("model_choices.py", self.out / "tuner.jsonl", "--comet", COMET, "--machine", "abacus")
        self.assertEqual(code, 1)
        self.assertIn("mixtral-8x7b, 2048, 8, 1, paced:45: comet: [machine] unknown machine", errors)
        code, _, errors = start("model_choices.py", self.out / "none.jsonl", "--machine", "h200")
        self.assertEqual(code, 1)
        self.assertIn("none.jsonl: no such file", errors)

    def test_the_model_chooses_anew(self):
        shutil.copy(ROOT / "tuning" / "nvidia-h200-local.json", self.out / "tuner_profile.json")
        case = {"kind": "case", "model": "mixtral-8x7b", "tokens": 2048, "ep": 8, "tp": 1, "link": "paced:45"}
        old = {"by_model": "3:512:16/16:warps", "sweep": {}, "finals": {}, "predicted_us": 1.0}
        bench_cases.write_rows(self.out / "tuner.jsonl", [{**case, **old}, {**case, "tokens": 4096}])
        arguments = argparse.Namespace(comet=COMET, rows=None, out=self.out, backend="cuda")
        tuner_grid.Grid(arguments).take_model_anew()
        row, untouched = bench_cases.read_rows(self.out / "tuner.jsonl")
        self.assertNotIn("finals", row)
        self.assertEqual((row["by_model"], row["predicted_us"]),
                         tuner_grid.preferred(COMET, ["--profile", self.out / "tuner_profile.json"], case))
        self.assertNotIn("by_model", untouched)
        bench_cases.write_rows(self.out / "tuner.jsonl", [{**row, "finals": {"a": 1.0}}])
        tuner_grid.Grid(arguments).take_model_anew()
        self.assertEqual(bench_cases.read_rows(self.out / "tuner.jsonl"), [{**row, "finals": {"a": 1.0}}], "the same choice: timed already")
        kept = (self.out / "tuner.jsonl").read_bytes()
        for other in (["--rows", self.out / "tuner.jsonl"], ["--backend", "cpu"]):
            code, _, errors = start("tuner_grid.py", "--comet", COMET, "--out", self.out, "--model-anew", *other)
            self.assertEqual(code, 1)
            self.assertIn("--model-anew: of a grid on GPUs", errors)
        self.assertEqual((self.out / "tuner.jsonl").read_bytes(), kept)

    def test_a_case_that_the_tuner_cannot_run_is_left_out(self):
        code, text, errors = start("tuner_grid.py", "--comet", COMET, "--backend", "cpu", "--out", self.out, "--models",
                                   "phi-3.5-moe", "--tokens", "32", "--splits", "2x1", "--links", "native,host",
                                   "--n-c", "1", "--flags", f"{TINY} --workers 2")
        self.assertEqual(code, 1)
        self.assertIn("1 cases failed", errors)
        self.assertIn("FAILED phi-3.5-moe, 32, 2, 1, host: [link] host", text)
        self.assertIn("1 cases; all choices", text)


class Judging(unittest.TestCase):
    def test_losses(self):
        case = {"model": "m", "tokens": 8, "ep": 2, "tp": 1, "link": "native", "tuned": "1:8:2/2:blocks",
                "by_model": "1:8:4/2:blocks",
                "swept": "blocks",
                "finals": {"1:8:2/2:blocks": 101.0, "1:8:4/2:blocks": 110.0, "1:8:2/4:blocks": 100.0},
                "sweep": {"1:8:2/2:blocks": 105.0, "2:8:2/2:blocks": 102.0, "1:8:2/4:blocks": 100.0,
                          "1:8:16/16:warps": 50.0}}
        # The last rounds count before the sweep.
        self.assertAlmostEqual(model_choices.judge(case, "1:8:2/2:blocks", 202.0)["model_loss"], 0.01)
        self.assertAlmostEqual(model_choices.judge(case, "2:8:2/2:blocks", 51.0)["model_loss"], 1.04)
        self.assertAlmostEqual(model_choices.judge(case, "2:8:2/2:blocks", 51.0)["error"], 0.5)
        self.assertIsNone(model_choices.judge(case, "9:8:2/2:blocks", 1.0))
        row = tuner_grid.judge(dict(case))
        self.assertAlmostEqual(row["tuned_loss"], 0.01)
        self.assertAlmostEqual(row["model_loss"], 0.10)
        losses = tuner_grid.fixed_losses([case])
        self.assertAlmostEqual(losses["2/2"][0], 0.02)
        self.assertAlmostEqual(losses["2/4"][0], 0.0)
        text = " ".join(tuner_grid.summary([row]))
        self.assertIn("tuner's choice is within 2% of the best in 100% of the cases", text)
        self.assertIn("model's own choice is within 8% of the best in 0% of the cases", text)
        self.assertIn("Of blocks, the best fixed n_c, 2/4", text)

    def test_claims_are_judged_by_their_rows(self):
        def case(tokens, tuned_us, model_us, link="paced:20"):
            return {"suite": "adaptive", "experiment": "tuner", "kind": "case", "model": "m", "tokens": tokens, "ep": 8,
                    "tp": 1, "link": link, "device": "G", "commit": "c", "calibrated": True, "predicted_us": 108.0,
                    "date": "2026-01-02T00:00:00Z",
                    "tuned": "1:8:1/2:blocks", "by_model": "1:8:2/2:blocks", "swept": "blocks",
                    "finals": {"1:8:1/2:blocks": tuned_us, "1:8:2/2:blocks": model_us, "1:8:2/1:blocks": 100.0},
                    "sweep": {"1:8:1/2:blocks": 100.0 + tokens % 2, "1:8:2/1:blocks": 101.0 - tokens % 2}}

        def call(schedule, us, link_us, link="paced:auto:1"):
            return {"suite": "adaptive", "experiment": "efficiency", "schedule": schedule, "t_layer_us": us, "model": "m",
                    "t_link_us": link_us, "efficiency": 90 / us, "tokens": 8, "ep": 8, "tp": 1, "link": link,
                    "device": "G", "commit": "c", "date": "2026-01-01T00:00:00Z"}

        def verdicts(rows):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "rows.jsonl"
                bench_cases.write_rows(path, rows)
                code, text, errors = start("claims.py", "--check", path)
            return code, errors, [line.split("  ")[0] for line in text.splitlines()[1:]
                                  if line.startswith(("holds", "DOES", "NO"))], text

        good = [case(tokens, 101.0, 105.0) for tokens in range(60)]
        overlap = [call("sequential", 180.0, 90.0), call("pipelined", 130.0, 90.0), call("comet", 100.0, 90.0)]
        code, errors, words, text = verdicts(good + overlap)
        self.assertEqual((code, errors, words), (0, "", ["holds"] * 9), text)
        self.assertIn("1/2                         30               0.5%       1.0%", text)
        self.assertIn("in 100.0% of 60, 1.0% slower on average, 1.0% at worst", text)
        self.assertEqual({claims.short_commit(commit) for commit in ("6cfe8fc170b8", "6cfe8fc170b82ce2df7e")},
                         {"6cfe8fc170b8"})
        self.assertEqual(claims.short_commit("6cfe8fc170b82ce2df7e-dirty"), "6cfe8fc170b8-dirty")
        cases = {0: good[1:], 1: [*good[4:], *(case(t, 103.0, 105.0) for t in range(4))],
                 2: [*good[1:], case(0, 101.0, 121.0)], 3: [{**row, "predicted_us": 118.0} for row in good],
                 4: [case(2 * tokens, 101.0, 105.0) for tokens in range(60)]}
        for place, rows in cases.items():
            expected = ["holds"] * 9
            expected[place] = "DOES NOT HOLD"
            self.assertEqual(verdicts(rows + overlap)[::2], (1, expected), place)
        older = [{**case(tokens, 109.0, 140.0), "date": "2026-01-01T00:00:00Z"} for tokens in range(60)]
        for rows in (good + older, older + good):
            self.assertEqual(verdicts(rows + overlap)[2], ["holds"] * 9, "of several rows for a case the newest counts")
        slow = [{**row, "efficiency": 0.8, "t_layer_us": 134.5} if row["schedule"] == "comet" else row for row in overlap]
        self.assertEqual(verdicts(good + slow)[2][5:], ["DOES NOT HOLD"] * 4)
        self.assertIn("m 8 EP8 x TP1 paced:auto:1: efficiency 0.800; not traced", verdicts(good + slow)[3])
        # Calls that are launched anew are judged by themselves.
        launched = [{**row, "graph": False, "t_plan_us": 190.0} for row in slow]
        replayed = [{**row, "graph": True, "t_plan_us": 55.0} for row in overlap]
        code, _, words, text = verdicts(good + replayed + launched)
        self.assertEqual((code, words), (1, ["holds"] * 9 + ["DOES NOT HOLD"] * 4), text)
        self.assertEqual(text.count("of 1 cases"), 8, text)
        self.assertIn("of sequential, calls launched anew: 0.800 of 1 cases on paced:auto:1, links EMULATED; least 0.800 (m 8 EP8 x TP1 "
                      "paced:auto:1, no graphs)", text)
        self.assertIn("m 8 EP8 x TP1 paced:auto:1, no graphs: efficiency 0.800; the plan takes 190 us, 55 in replayed calls\n", text)
        self.assertNotIn("not traced", text)
        words, text = verdicts(good + launched)[2:]
        self.assertEqual(words[5:], ["NO ROWS"] * 4 + ["DOES NOT HOLD"] * 4, "no replayed calls")
        self.assertIn("no graphs: efficiency 0.800; the plan takes 190 us\n", text)
        parts = {"products_slowed": 1.25, "plan_ends_us": 1.0, "before_products_us": 2.0, "products_us": 96.0,
                 "between_products_us": 1.0, "after_products_us": 1.0}
        self.assertIn("the plan takes 190 us; products take 1.25 of their time alone",
                      verdicts(good + [{**row, **parts} for row in launched])[3])
        fast = [{**row, **parts, "link_gbs": 30.0} for row in overlap]
        words, text = verdicts(good + fast)[2:]
        self.assertIn("30.0 GB/s: efficiency 0.900; products take 1.25 of their time alone; of a call 2% pass before the first (plan 1%)", text)
        self.assertEqual(words[5:], ["NO ROWS", "holds", "holds", "holds"], "efficiency is judged over slower links")
        bad = [{**row, "tokens": 9, "efficiency": 0.6} for row in fast]
        self.assertEqual(verdicts(good + overlap + bad)[2], ["holds"] * 9)
        rare = [{**row, "t_link_us": 60.0} for row in overlap]
        self.assertEqual(verdicts(rare)[2], ["NO ROWS"] * 9)
        self.assertEqual(verdicts([])[:2], (1, "claims.py: no rows of tuner_grid.py, of the experiment efficiency or of "
                                            "suite overlap\n"))


if __name__ == "__main__":
    COMET = sys.argv.pop(1)
    unittest.main()
