#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The hashes of GPU sources see code and no comments, and only rows of today's sources pass."""

import argparse
import contextlib
import importlib
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

KERNEL = "src/backend/cuda/kernels/grouped_gemm.cu"
SCRIPT = "bench/cuda/gemm_rates.py"
OVERLAP_SCRIPT = "bench/cuda/overlap_grid.py"
PROCESS_SCRIPT = "bench/cuda/process_worlds.py"
PLUGIN = "src/backend/cuda/nvshmem/nvshmem_plugin.cu"
GOOD_TREE = {
    KERNEL: 'const char* link = "a//b";  // why\n#define TWO 2\nint n = 1\'000;\n',
    "src/base/check.hpp": "#pragma once\n",
    "tests/cuda/a_test.cpp": "int main() {}\n",
    SCRIPT: 'def rate(x):\n    """Doc."""\n    return f"#{x}"  # why\n',
    OVERLAP_SCRIPT: "TOKENS = (8192,)\n",
    PROCESS_SCRIPT: "RANKS = (8,)\n",
    PLUGIN: "int id;\n",
}


class TreeTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.root = Path(scratch.name)
        for path, text in GOOD_TREE.items():
            self.write(path, text)

    def write(self, path, text):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text, encoding="utf-8")

    def hashes(self):
        return evidence.all_hashes(self.root)


class HashTest(TreeTest):
    def expect(self, path, old, new, changed):
        before = self.hashes()
        self.assertIn(old, GOOD_TREE[path])
        self.write(path, GOOD_TREE[path].replace(old, new))
        after = self.hashes()
        self.write(path, GOOD_TREE[path])
        self.assertEqual({suite for suite in before if before[suite] != after[suite]}, changed)

    def test_shape(self):
        for suite_hash in self.hashes().values():
            self.assertRegex(suite_hash, r"^[0-9a-f]{16}$")

    def test_comments_and_space_do_not_count(self):
        for old, new in {
            "  // why": "",
            "// why": "// why\n// more \\\n   of it",
            "int n =": "\n/* it's\n \"n */\n  int   n\t=",
        }.items():
            with self.subTest(new=new):
                self.expect(KERNEL, old, new, set())
        for old, new in {"# why": "# it's why", "  # why": "\n\n# end", "    ": "  "}.items():
            with self.subTest(new=new):
                self.expect(SCRIPT, old, new, set())

    def test_code_counts(self):
        everything = {"tests", "sanitizer", "gemm", "overlap", "processes"}
        for old, new in (
            ("a//b", "a//c"),
            ("a//b", "a  //b"),
            ("1'000", "1'001"),
            ("TWO 2\n", "TWO 2 "),
            ("// why", "// why\nint m;"),
        ):
            with self.subTest(new=new):
                self.expect(KERNEL, old, new, everything)
        for old, new in (("#{", "# {"), ("return", "yield"), ("    return", "return")):
            with self.subTest(new=new):
                self.expect(SCRIPT, old, new, {"gemm"})
        self.expect("src/base/check.hpp", "once", "twice", everything - {"gemm"})
        self.expect(OVERLAP_SCRIPT, "8192", "4096", {"overlap"})
        self.expect(PROCESS_SCRIPT, "8", "4", {"processes"})
        self.expect(PLUGIN, "id", "number", {"processes"})

    def test_names_count(self):
        before = self.hashes()
        (self.root / KERNEL).rename(self.root / KERNEL.replace("grouped", "dense"))
        self.assertNotEqual(before, self.hashes())

    def test_what_looks_like_a_comment(self):
        for text in (
            'auto u = "http://x";',
            'auto q = "\\"//x";',
            "auto c = '\"'; auto d = \"//\";",
            "auto c = '\\''; auto d = '//';",
            'auto r = R"(a // b " /* c)";',
            'auto r = u8R"x(a )" // b)x";',
        ):
            self.assertEqual(evidence.strip_cpp(text + "  // gone\n/* gone */"), text)
        self.assertEqual(evidence.strip_cpp("a = b /* x */ * c;"), "a = b * c;")
        self.assertEqual(evidence.strip_python("x = '#'  # gone\n"), "x = '#'\n")
        self.assertEqual(evidence.strip_python('x = """a\n  # b"""\n'), 'x = """a\n  # b"""\n')

    def test_a_suite_without_sources_is_an_error(self):
        (self.root / SCRIPT).unlink()
        (self.root / KERNEL).unlink()
        with self.assertRaisesRegex(FileNotFoundError, "suite gemm has no source"):
            self.hashes()


class CheckTest(TreeTest):
    def row(self, suite, **fields):
        row = {"suite": suite, "result": "passed", "run": "r1", "date": "2030-01-01T00:00:00Z"}
        return {**row, "evidence": self.hashes()[suite], **fields}

    def expect(self, rows, code, *lines):
        text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
        self.write("bench/results/gpu.jsonl", text)
        printed = io.StringIO()
        arguments = ["check_evidence", "--root", str(self.root)]
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            with mock.patch.object(sys, "argv", arguments):
                self.assertEqual(check_evidence.main(), code, printed.getvalue())
        for line in lines:
            self.assertIn(line, printed.getvalue())

    def good(self):
        return [self.row(suite) for suite in evidence.SUITES] + [{"suite": "bench", "run": 1}]

    def test_good_rows_pass(self):
        self.expect(self.good(), 0, "tests: ok", "sanitizer: ok", "gemm: ok", "overlap: ok")

    def test_no_rows(self):
        self.expect(self.good()[1:], 1, "tests: no rows", "gemm: ok")

    def test_other_sources(self):
        rows = self.good()
        self.write(KERNEL, "int other;\n")
        old, new = rows[2]["evidence"], self.hashes()["gemm"]
        self.expect(rows, 1, f"gemm: rows are of other sources ({old}, {new})")
        # One row of other sources spoils its run.
        self.expect(self.good() + [self.row("gemm", evidence="0" * 16)], 1, f"({'0' * 16}, {new})")

    def test_failed_row(self):
        self.expect(self.good() + [self.row("tests", result="failed")], 1, "tests: failed")

    def test_only_the_newest_run_counts(self):
        late = "2030-01-02T00:00:00Z"
        failed = self.row("tests", result="failed", run="r0", date="2029-01-01T00:00:00Z")
        self.expect(self.good() + [failed], 0)
        self.expect(self.good() + [self.row("tests", result="failed", run="r2", date=late)], 1)

    def test_damaged_lines(self):
        for damaged, text in {
            "{": "is no JSON",
            "[]": "is no JSON object",
            '{"suite": "gemm"}': 'lacks the text field "evidence"',
            json.dumps(self.row("gemm", date="today")): "has the date today",
            json.dumps(self.row("gemm", result="good")): 'has the result "good"',
        }.items():
            with self.subTest(text=text):
                where = f"bench/results/gpu.jsonl:{len(self.good()) + 1}: the line "
                self.expect(self.good() + [damaged], 1, where + text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("tools", type=Path)
    sys.path.insert(0, str(parser.parse_args().tools.resolve() / "gpu"))
    evidence = importlib.import_module("evidence")
    check_evidence = importlib.import_module("check_evidence")
    unittest.main(argv=sys.argv[:1])
