#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The experiments of bench/experiments on a tiny layer on the CPU: their files, rows, resuming, pictures,
and what is counted from times. argv[1] is the command."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from experiments_folder import FOLDER, ROOT, TINY, start

import bench_cases
import charts
import run
import traced_calls
import tuner_grid

COMET = None


class Files(unittest.TestCase):
    def test_each_is_an_experiment(self):
        self.assertGreaterEqual(len(run.names()), 8)
        for name in run.names():
            with self.subTest(name):
                experiment = run.read_experiment(name)
                self.assertLessEqual(experiment["seconds"], 120)
                self.assertTrue(experiment["title"] and experiment["figure"] and experiment["said"])
                lines = run.lines_of(experiment, "none")
                self.assertEqual(len(lines), len(set(lines)))
                for chart in experiment["charts"]:
                    self.assertIn(chart["kind"], ("lines", "bars"))
                # A figure of the paper that no point asks for would silently be missing.
                for entry in experiment.get("paper", []):
                    where = entry["where"]
                    for key, flag in (("tokens", "tokens"), ("tp", "tp"), ("ep", "ep"), ("link", "link"),
                                      ("model", "model")):
                        if key in where:
                            self.assertTrue(any(f"--{flag} {where[key]} " in line + " "
                                                for line in lines), entry)

    def test_cases_are_all_combinations_with_weights_kept_together(self):
        lines = run.lines_of({"flags": "--ep 8", "vary": [["--model a", "--model b"], ["", "--no-graphs"]]},
                             "none")
        self.assertEqual(lines, ["--model a --ep 8", "--model a --no-graphs --ep 8", "--model b --ep 8",
                                 "--model b --no-graphs --ep 8"])
        lines = run.lines_of({"vary": [["--ep 1", "--ep 2"]]}, "none", launches=True)
        self.assertEqual(lines, ["--ep 1", "--ep 1 --no-graphs", "--ep 2", "--ep 2 --no-graphs"])
        tokens = run.read_experiment("tokens")
        self.assertEqual(run.lines_of(tokens, "none", launches=True), run.lines_of(tokens, "none"), "which has both")
        self.assertEqual(run.in_small("--tokens 8192 --topk 2"), "--tokens 128 --topk 2")
        self.assertEqual(run.lines_of({"flags": "--placement warps --ep 8", "vary": [["", "--no-graphs"]]}, "none", backend="cpu"),
                         ["--ep 8"], "what only GPUs have")
        self.assertEqual(run.on_cpu("--ep 8 --waves 2 --choices 1:0:1/2:blocks:4,2:0:1/1:warps,4:0:1/1"),
                         "--ep 8 --choices 1:0:1/2,2:0:1/1,4:0:1/1")
        choices = run.lines_of({"vary": [["--ep 8"]], "n_c_sweep": {"values": [1], "other": 2, "groups": [4]}}, "none", backend="cpu")
        self.assertEqual(choices, ["--ep 8 --choices 4:0:1/2,4:0:2/1"])
        self.assertEqual(run.n_c_choices([1, 2], 2, [4]),
                         ["4:0:1/2:blocks", "4:0:2/2:blocks", "4:0:2/1:blocks"])


class Running(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = Path(folder.name)

    def test_rows_come_back_by_their_case(self):
        lines = [f"{TINY} --tokens 32 --ep 2", f"{TINY} --tokens 32 --ep 2 --link paced:0.5"]
        shared = ["--world", "local:2", "--rounds", "1", "--schedules", "sequential,comet"]
        found = {}
        self.assertEqual(bench_cases.run_cases(COMET, shared, lines, found.__setitem__), ({}, True))
        self.assertEqual([[row["link"] for row in found[line]] for line in lines],
                         [["native"] * 2, ["paced:0.5"] * 2])
        self.assertTrue(found[lines[1]][0]["link_emulated"])
        self.assertFalse(found[lines[0]][0]["link_emulated"])
        self.assertEqual(found[lines[0]][0]["command"],
                         "comet bench --world local:2 --rounds 1 --schedules sequential,comet " + lines[0])

    def test_a_case_that_fails_is_named_and_the_others_go_on(self):
        good = [f"{TINY} --tokens {tokens} --schedules sequential" for tokens in (32, 48)]
        bad = f"{TINY} --tokens 32 --link paced:auto"  # of one rank: no bytes, no rate
        found = {}
        failed, is_whole = bench_cases.run_cases(COMET, ["--rounds", "1"], [good[0], bad, good[1]], found.__setitem__)
        self.assertEqual(list(found), good)
        self.assertEqual(list(failed), [bad])
        self.assertIn("no bytes cross a link", failed[bad])
        self.assertTrue(is_whole)

    def test_a_line_that_is_no_case_is_named_and_the_others_go_on(self):
        good = [f"{TINY} --tokens {tokens} --schedules sequential" for tokens in (32, 48)]
        bad = "--model abacus"
        found = {}
        failed, is_whole = bench_cases.run_cases(COMET, ["--rounds", "1"], [good[0], bad, good[1]], found.__setitem__)
        self.assertEqual((list(found), list(failed), is_whole), (good, [bad], True))
        self.assertTrue(failed[bad].startswith("[model] unknown name 'abacus'"), failed[bad])

    def test_where_nothing_runs_it_gives_up(self):
        lines = [f"--model {name}" for name in "abcdefgh"]  # no such models
        started = []
        failed, _ = bench_cases.run_cases(COMET, [], lines, self.fail, on_line=started.append)
        self.assertEqual(list(failed), lines)
        self.assertIn("not tried", failed[lines[-1]])
        self.assertLess(len(started), 8)

    def test_rows_are_kept_as_soon_as_they_are_there(self):
        """Of a process that is killed in its second case."""
        slow = "--experts 8 --topk 2 --hidden 512 --intermediate 2048 --tokens 4096 --rounds 1000"
        script = (f"import bench_cases, sys; bench_cases.run_cases({str(Path(COMET).resolve())!r}, ['--schedules', 'sequential'], "
                  f"['{TINY} --tokens 32', '{slow}'], lambda line, rows: print(len(rows), flush=True), "
                  "on_line=lambda line: None)")
        process = subprocess.Popen([sys.executable, "-c", script], cwd=FOLDER, stdout=subprocess.PIPE, text=True,
                                   start_new_session=True)
        try:
            self.assertEqual(process.stdout.readline(), "1\n")
            self.assertIsNone(process.poll())
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def test_an_experiment_is_kept_resumed_and_reported(self):
        arguments = ("memory", "--comet", COMET, "--backend", "cpu", "--out", self.out)
        code, _, errors = start("run.py", *arguments)
        self.assertEqual((code, errors), (0, ""))
        first = bench_cases.read_rows(self.out / "rows.jsonl")
        points = len(run.lines_of(run.read_experiment("memory"), "none"))
        self.assertEqual(len(first), points + 1)
        self.assertAlmostEqual(first[1]["over_paper"], first[1]["workspace_mb"] / first[1]["paper_mb"])
        for more in ((), ("--resume",)):
            self.assertEqual(start("run.py", *arguments, *more)[0], 0)
            self.assertEqual(len(bench_cases.read_rows(self.out / "rows.jsonl")), points + 1, "no row is there twice")
        page = self.out / "page.html"
        done = subprocess.run([COMET, "report", self.out / "rows.jsonl", "-o", page], check=False)
        self.assertEqual(done.returncode, 0)
        self.assertIn("Beside table 3", page.read_text(encoding="utf-8"))

    def test_what_only_gpus_have_is_left_out_on_a_cpu(self):
        """Launched calls, placements, and choices of blocks."""
        code, _, errors = start("run.py", "tokens", "n_c", "--comet", COMET, "--backend", "cpu", "--scale", "32", "--out", self.out)
        self.assertEqual((code, errors), (0, ""))
        self.assertEqual({row["graph"] for row in bench_cases.read_rows(self.out / "rows.jsonl") if "graph" in row}, {False})

    def test_known_points_are_not_run_again(self):
        class Arguments:
            comet, backend, scale, no_graphs = "/nowhere", "cpu", "none", False
        experiment = {"vary": [["--tokens 8"], ["--ep 1", "--ep 2"]], "rounds": 1}
        self.assertEqual(run.run_points(experiment, Arguments, {"--tokens 8 --ep 1", "--tokens 8 --ep 2"},
                                        self.fail, None), ({}, True))
        with self.assertRaisesRegex(bench_cases.Failure, "/nowhere"):
            run.run_points(experiment, Arguments, {"--tokens 8 --ep 1"}, self.fail, None)

    def test_rows_over_fast_links_say_where_their_time_goes(self):
        class Arguments:
            comet, backend, scale, no_graphs = COMET, "cpu", "demo", False
        experiment = {"title": "t", "figure": "f", "rounds": 1, "traced": {"efficiency_below": 0.0, "link_above_gbs": 2}, "flags": "--tokens 64",
                      "vary": [[TINY], ["--ep 8"], ["--link paced:1", "--link paced:3"]]}

        class Rows:
            rows, num_written = [], 0

            def of(self, _):
                return self.rows

            def write(self):
                self.num_written += 1

        table = Rows()
        keep = lambda rows: table.rows.extend(rows)  # noqa: E731
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(run.run_points(experiment, Arguments, set(), keep, None), ({}, True))
        self.assertEqual(run.add_traces("x", experiment, Arguments, table, bench_cases.Deadline(0)), ({}, False))
        self.assertEqual(run.add_traces("x", experiment, Arguments, table, bench_cases.Deadline(None)), ({}, True))
        self.assertEqual(table.num_written, 1)
        traced = [row for row in table.rows if "products_us" in row]
        self.assertEqual([(row["schedule"], row["link"]) for row in traced], [("comet", "paced:3")])
        self.assertAlmostEqual(traced[0]["products_slowed"], traced[0]["products_us"] / traced[0]["t_compute_us"])
        for key in ("products_us", "before_products_us", "plan_ends_us"):
            self.assertGreater(traced[0][key], 0, key)
        self.assertGreater(traced[0]["before_products_us"], traced[0]["plan_ends_us"])
        del traced[0]["before_products_us"]
        traced[0]["panel"] = "wide"
        failed, is_whole = run.add_traces("x", experiment, Arguments, table, bench_cases.Deadline(None))
        self.assertTrue(is_whole)
        self.assertIn("wide", failed[traced[0]["point"]])

    def test_traces_of_gpus_are_asked_for_in_flags_that_the_command_has(self):
        """Where it lacks GPUs they are all that it refuses."""
        class Arguments:
            backend, scale = "cuda", "none"
        for line in run.lines_of(run.read_experiment("efficiency"), "none", launches=True)[:2]:
            row = {"point": line, "link_gbs": 27.5, "groups": 4, "panel": 256, "n_c_dispatch": 16, "n_c_combine": 8}
            command = [COMET, "trace", *run.world_flags(Arguments), *traced_calls.trace_flags(row), "--out", self.out / "trace.json"]
            code, said = bench_cases.run_command(command, on_line=lambda _: None)
            self.assertEqual(code, 2)
            self.assertIn("cuda: build with 'make cuda'", said)

    def test_pictures_are_drawn_of_rows_alone(self):
        self.assertEqual(start("run.py", "memory", "--comet", COMET, "--backend", "cpu", "--out", self.out)[0], 0)
        rows = (self.out / "rows.jsonl").rename(self.out / "kept.jsonl")
        before = rows.read_bytes()
        code, text, errors = start("run.py", "memory", "--comet", "/nowhere", "--draw", rows, "--out", self.out)
        self.assertEqual((code, errors), (0, ""))
        self.assertTrue((self.out / "memory.svg").exists() or "matplotlib is not installed" in text, text)
        self.assertEqual(rows.read_bytes(), before)
        code, _, errors = start("run.py", "memory", "--draw", self.out / "none.jsonl", "--out", self.out)
        self.assertEqual((code, errors.count("\n")), (1, 1))

    def test_bad_input_is_one_sentence(self):
        for arguments, why in ((["nothing"], "no experiment 'nothing'"), ([], "no experiment named"),
                               (["n_c", "--comet", "/nowhere"], "/nowhere: no such command"),
                               (["n_c", "--comet", ROOT], f"{ROOT}: no such command"),
                               (["n_c", "--draw", ROOT], f"{ROOT}: Is a directory"),
                               (["n_c", "--comet", COMET, "--out", __file__], f"{__file__}: File exists")):
            code, _, errors = start("run.py", "--out", self.out, *arguments)
            self.assertEqual(code, 1)
            self.assertIn(why, errors)
            self.assertEqual(errors.count("\n"), 1, errors)
        (self.out / "rows.jsonl").write_text("{", encoding="utf-8")
        code, _, errors = start("run.py", "memory", "--comet", COMET, "--out", self.out)
        self.assertEqual(code, 1)
        self.assertIn("rows.jsonl:1: no JSON", errors)

    def test_bad_flags_are_refused_before_anything_runs(self):
        for script, flags, why in (("run.py", ("n_c", "--no-graphs", "--backend", "cpu"), "--no-graphs: calls on cpu are never replayed"),
                                   ("run.py", ("n_c", "--seconds", "-1"), "'-1', a number of at least 0"),
                                   ("run.py", ("n_c", "--seconds", "nan"), "'nan', a number of at least 0"),
                                   ("tuner_grid.py", ("--splits", "8"), "'8', <EP>x<TP>"),
                                   ("tuner_grid.py", ("--splits", "8x1,0x2"), "'0x2', <EP>x<TP>"),
                                   ("tuner_grid.py", ("--tokens", "8,x"), "'x', a whole number of at least 1"),
                                   ("tuner_grid.py", ("--n-c", "1,-2"), "'-2', a whole number of at least 0"),
                                   ("model_choices.py", ("x", "--machine", "h200", "--ranks-per-device", "0"), "0")):
            code, text, errors = start(script, *flags)
            self.assertEqual((code, text), (2, ""), flags)
            self.assertIn(why, errors)

    def test_rows_of_something_else_are_refused(self):
        rows = self.out / "rows.jsonl"
        for content, why in ((b'{"suite": "bench"}\n', None), (b"{}\n[1]\n", ":2: no JSON object"), (b"\xff\n", ": no text")):
            rows.write_bytes(content)
            for script, flags in (("claims.py", [rows]), ("model_choices.py", [rows, "--machine", "h200", "--comet", COMET]),
                                  ("tuner_grid.py", ["--rows", rows, "--out", self.out / "new"]),
                                  ("run.py", ["all", "--draw", rows, "--out", self.out / "new"])):
                code, text, errors = start(script, *flags)
                self.assertEqual((code, text, errors.count("\n")), (1, "", 1), errors)
                self.assertIn(why or "no ", errors)
        self.assertFalse((self.out / "new").exists())

    def test_nobody_need_read_to_the_end(self):
        """As with `| head`: no traceback, and the exit code of SIGPIPE."""
        for script, flags in (("run.py", ["--list"]), ("claims.py", [ROOT / "bench" / "results" / "tuner.jsonl"])):
            reader, writer = os.pipe()
            os.close(reader)
            with open(writer, "w", encoding="utf-8") as output:
                done = subprocess.run([sys.executable, FOLDER / script, *flags], check=False, stdout=output,
                                      stderr=subprocess.PIPE, text=True)
            self.assertEqual((done.returncode, done.stderr), (128 + signal.SIGPIPE, ""))


class Counting(unittest.TestCase):
    def test_series_of_a_chart(self):
        chart = {"x": "n", "y": "t", "series": ["schedule"], "where": {"ep": [1, 2]}, "relative": True}
        rows = [{"schedule": "comet", "ep": 1, "n": 2, "t": 3.0}, {"schedule": "comet", "ep": 2, "n": 1, "t": 2},
                {"schedule": "comet", "ep": 3, "n": 1, "t": 1}, {"schedule": "comet", "ep": 1, "n": 4}]
        self.assertEqual(charts.series_of(rows, chart), {"comet": [(1, 1.0), (2, 1.5)]})

    def test_parts_of_a_call_are_those_of_the_rank_that_is_longest_in_products(self):
        def event(cat, pid, tid, ts, dur, name="x"):
            return {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid, "ts": ts, "dur": dur}
        events = [event("compute", 1, 1, 10.0, 5.0), event("compute", 1, 1, 18.0, 2.0), event("compute", 1, 2, 12.0, 7.0),
                  event("compute", 2, 3, 4.0, 6.0), event("plan", 1, 1, 0.0, 1.0), event("plan", 1, 1, 1.0, 6.0, "plan"),
                  event("plan", 2, 3, 1.0, 2.0, "plan"), event("copy", 2, 4, 20.0, 10.0),
                  {"ph": "M", "name": "thread_name", "pid": 1, "tid": 1}]
        self.assertEqual(traced_calls.parts_of(events, 2),
                         {"plan_ends_us": 7.0, "before_products_us": 11.0, "products_us": 7.0,
                          "between_products_us": 1.5, "after_products_us": 10.5})
        self.assertEqual(traced_calls.parts_of(events, None)["products_us"], 7.0)
        events.append(event("compute", 2, 3, 10.0, 2.0))
        self.assertEqual(traced_calls.parts_of(events, 2)["products_us"], 7.0, "4 of 2 workers each")
        self.assertEqual(traced_calls.parts_of(events, None)["products_us"], 8.0, "of the one that has any")
        self.assertEqual(traced_calls.parts_of([], 16), {})
        row = {"products_slowed": 1.04, "plan_ends_us": 20.0, "before_products_us": 50.0, "products_us": 900.0,
               "between_products_us": 30.0, "after_products_us": 20.0}
        self.assertEqual(traced_calls.said_of(row), "products take 1.04 of their time alone; of a call 5% pass before the first "
                         "(plan 2%), 3% between them and 2% after the last")
        self.assertEqual(traced_calls.said_of({"products_us": 900.0}), "not traced")

    def test_rows_of_short_efficiency_or_over_fast_links_are_traced_once(self):
        row = {"schedule": "comet", "link_gbs": 27.5, "point": "--ep 8 --link paced:auto:0.7 --tokens 8", "groups": 4,
               "panel": 256, "n_c_dispatch": 16, "n_c_combine": 8, "efficiency": 0.9}
        self.assertEqual(" ".join(map(str, traced_calls.trace_flags(row))),
                         "--ep 8 --link paced:27.5 --tokens 8 --schedules comet --groups 4 --panel 256 --n-c-dispatch 16 --n-c-combine 8")
        launched = {**row, "point": row["point"] + " --no-graphs"}
        self.assertEqual(traced_calls.trace_flags(launched), [*traced_calls.trace_flags(row)[:6], "--no-graphs",
                                                              *traced_calls.trace_flags(row)[6:]])
        for other in ({}, {"link_gbs": 20.0, "efficiency": 0.84}, {"point": launched["point"]}):
            self.assertTrue(traced_calls.lacks_parts({**row, **other}, 0.85, 20), other)
        for other in ({"link_gbs": 20.0}, {"link_gbs": None, "efficiency": None}, {"schedule": "pipelined"},
                      {"before_products_us": 1.0}):
            self.assertFalse(traced_calls.lacks_parts({**row, **other}, 0.85, 20), other)

    def test_graphs_and_launched_calls_are_told_apart(self):
        chart = {"kind": "lines", "x": "n", "y": "t", "series": ["schedule"]}
        rows = [{"schedule": "comet", "n": 1, "t": 3.0, "graph": True}, {"schedule": "comet", "n": 1, "t": 4.0, "graph": False}]
        self.assertEqual(charts.with_graphs_apart(chart, rows[:1]), chart)
        both = charts.series_of(rows, charts.with_graphs_apart(chart, rows))
        self.assertEqual(both, {"comet, graphs": [(1, 3.0)], "comet, no graphs": [(1, 4.0)]})
        colours = {}
        styles = [charts.style_of(label, colours) for label in ("EP2, graphs", "EP2, no graphs", "EP4, no graphs", "no graphs")]
        self.assertEqual([(style["color"], style["linestyle"]) for style in styles],
                         [("C0", "-"), ("C0", "--"), ("C1", "--"), ("C2", "--")])
        bars = charts.with_graphs_apart({"kind": "bars", "x": ["ep"], "y": "t"}, rows)
        self.assertEqual(bars["x"], ["ep", "graph"])

    def test_rows_get_the_papers_figures(self):
        experiment = {"paper": [{"where": {"tp": 8, "schedule": "comet"}, "has": {"paper_hidden": 0.5}}]}
        rows = [{"schedule": name, "tp": 8, "t_layer_us": us, "t_compute_us": 90.0, "sms": 16,
                 "n_c_dispatch": 2, "n_c_combine": 4, "routing": "std:0.05"}
                for name, us in (("pipelined", 120.0), ("comet", 80.0))]
        run.add_ratios(experiment, rows)
        self.assertAlmostEqual(rows[1]["speedup_vs_pipelined"], 1.5)
        self.assertEqual((rows[1]["paper_hidden"], rows[1]["exposed_ms"]), (0.5, 0.0))
        self.assertNotIn("paper_hidden", rows[0])
        self.assertEqual(rows[0]["n_c_combine_share"], 0.25)
        self.assertEqual(rows[0]["imbalance"], 0.05)


if __name__ == "__main__":
    COMET = sys.argv.pop(1)
    unittest.main()
