#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plants one fault after the other in a small source tree and demands that the checkers name it.

A checker that passes everything would keep CI green for ever; this is its test.
"""

import argparse
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

GOOD_TREE = {
    "CMakeLists.txt": "add_subdirectory(src)\n",
    "include/comet/error.hpp": "#pragma once\n#include <string>\n",
    "include/comet/layer.hpp": '#pragma once\n#include "comet/error.hpp"\n',
    "src/CMakeLists.txt": "foreach(folder base backend check cli layer plan)\nendforeach()\n",
    "src/base/CMakeLists.txt": "target_sources(comet PRIVATE a.cpp)\n",
    "src/base/a.hpp": '#include "comet/error.hpp"\n#include <fmt/format.h>\n',
    "src/base/a.cpp": '#include "base/a.hpp"\n',
    "src/backend/CMakeLists.txt": "target_sources(comet PRIVATE cpu/b.cpp)\n",
    "src/backend/cpu/b.cpp": '#include "base/a.hpp"\n',
    "src/backend/ref/r.hpp": "#include <vector>\n",
    "src/check/CMakeLists.txt": "target_sources(comet PRIVATE oracle.cpp)\n",
    "src/check/oracle.hpp": '#include "comet/error.hpp"\n',
    "src/check/oracle.cpp": '#include "check/oracle.hpp"\n#include "base/a.hpp"\n',
    "src/check/random_case.hpp": "",
    "src/layer/CMakeLists.txt": "",
    "src/layer/l.hpp": "",
    "src/plan/CMakeLists.txt": "",
    "src/plan/p.hpp": '#include "base/a.hpp"\n',
    "src/cli/CMakeLists.txt": "add_executable(comet_cli main.cpp)\n",
    "src/cli/main.cpp": '#include "comet/layer.hpp"\n',
    "tests/CMakeLists.txt": "foreach(folder base)\nendforeach()\n",
    "tests/base/CMakeLists.txt": "comet_tests(a_test.cpp)\n",
    "tests/base/a_test.cpp": "",
    "bench/CMakeLists.txt": "",
    "examples/CMakeLists.txt": "comet_example(01_first)\n",
    "examples/01_first/main.cpp": "",
}


class CheckersTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.root = Path(scratch.name)
        for path, text in GOOD_TREE.items():
            self.write(path, text)

    def write(self, path, text):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text, encoding="utf-8")

    def run_tool(self, tool, *more):
        command = [sys.executable, TOOLS / tool, *more]
        result = subprocess.run(command, text=True, capture_output=True)
        return result.returncode, result.stdout + result.stderr

    def expect_fault(self, tool, named):
        code, output = self.run_tool(tool, "--root", self.root)
        self.assertEqual(code, 1, output)
        self.assertIn(named, output)

    def test_good_tree_passes(self):
        for tool in ("check_layers.py", "check_tests_registered.py"):
            code, output = self.run_tool(tool, "--root", self.root)
            self.assertEqual(code, 0, output)

    def test_layers(self):
        faults = {
            "include/comet/layer.hpp": "#include <fmt/format.h>",
            "include/comet/error.hpp": '#include "base/a.hpp"',
            "src/base/a.hpp": '#include "plan/p.hpp"',
            "src/base/a.cpp": '#include "comet/layer.hpp"',
            "src/cli/main.cpp": '#include "plan/p.hpp"',
            "src/backend/cpu/b.cpp": '#include "backend/ref/r.hpp"',
            "src/plan/p.hpp": "#include <nowhere/x.hpp>",
            "src/backend/ref/r.hpp": '#include "b.hpp"',
            "src/new_folder/x.cpp": "",
        }
        for path, include in faults.items():
            with self.subTest(path=path):
                self.write(path, include + "\n")
                self.expect_fault("check_layers.py", path.split("/x.cpp")[0])
                if path in GOOD_TREE:
                    self.write(path, GOOD_TREE[path])

    def test_third_party(self):
        self.write("src/base/a.cpp", "#include <CLI/CLI.hpp>\n")
        self.expect_fault("check_layers.py", "only the command parses arguments")

    def test_oracle_is_independent(self):
        for shared in ("layer/l.hpp", "check/random_case.hpp"):  # which other files of the folder may include
            with self.subTest(shared=shared):
                self.write("src/check/oracle.hpp", f'#include "{shared}"\n')
                self.expect_fault("check_layers.py", f'oracle may not include "{shared}"')
        (self.root / "src/check/oracle.hpp").unlink()
        (self.root / "src/check/oracle.cpp").unlink()
        self.expect_fault("check_layers.py", "src/check/oracle:1: no file")

    def test_registration(self):
        forgotten = (
            "src/base/b.cpp",
            "src/backend/cpu/c.cpp",
            "tests/base/b_test.cpp",
            "tests/other/CMakeLists.txt",
            "bench/x_bench.cpp",
            "examples/02_second",
        )
        for path in forgotten:
            with self.subTest(path=path):
                file = path if "." in path else path + "/main.cpp"
                self.write(file, "")
                self.expect_fault("check_tests_registered.py", path)
                (self.root / file).unlink()
                if file != path:
                    (self.root / path).rmdir()

    def test_commented_out_is_not_registered(self):
        self.write("tests/base/CMakeLists.txt", "# comet_tests(a_test.cpp)\n")
        self.expect_fault("check_tests_registered.py", "tests/base/a_test.cpp")

    def test_name_taken_twice(self):
        self.assertEqual(self.run_tool("check_names.py", "--root", self.root)[0], 0)
        self.write("src/base/a.hpp", "namespace comet {\nint parse(const char* text);\n}\n")
        source = "namespace comet {\nnamespace {\n\nint parse(long x) { return 0; }\n\n}  // namespace\n}\n"
        self.write("src/backend/cpu/b.cpp", source)
        self.expect_fault("check_names.py", "src/backend/cpu/b.cpp: parse is also in src/base/a.hpp")

    def test_kernel_that_does_not_wait(self):
        self.assertEqual(self.run_tool("check_kernel_waits.py", "--root", self.root)[0], 0)
        call = "launch_kernel(fill_kernel<float>, 1, 32, n)"
        launch = "void launch(int n) {\n  " + call + ";\n}\n"
        head = "template <typename T>\n__global__ void __launch_bounds__(32)\n    fill_kernel(int n) "
        wait = "wait_for_kernels_before();"
        bodies = {
            "{\n  go(n);\n}\n": "does not call",
            "{\n  // " + wait + "\n  go(n);\n}\n": "does not call",
            "{\n  if (n > 0) {\n    " + wait + "\n  }\n  go(n);\n}\n": "does not call",
            "{\n  if (n == 0) return;\n  " + wait + "\n  go(n);\n}\n": "may return before",
        }
        for body, why in bodies.items():
            with self.subTest(body=body):
                self.write("src/backend/cuda/k.cu", head + body + launch)
                self.expect_fault("check_kernel_waits.py", f"src/backend/cuda/k.cu: fill_kernel {why}")
        self.write("src/backend/cuda/k.cu", head + "{\n  " + wait + "\n  if (n == 0) return;\n}\n" + launch)
        self.assertEqual(self.run_tool("check_kernel_waits.py", "--root", self.root)[0], 0)
        for other in (call, "launch_clusters(n > 1 ? 2 : 1, fill_kernel<float>, 1, 32, n)"):
            self.write("src/backend/cuda/k.cu", launch.replace(call, other))
            self.expect_fault("check_kernel_waits.py", "fill_kernel: launched, but no kernel has that name")

    def test_header_that_needs_another(self):
        self.write("include/comet/bad.hpp", "#pragma once\nstd::string leans_on_others();\n")
        folder = self.root / "include"
        code, output = self.run_tool("check_headers.py", "--compiler", COMPILER, "--folder", folder)
        self.assertEqual(code, 1, output)
        self.assertIn("comet/bad.hpp does not compile alone", output)
        self.assertIn("1 fault(s)", output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("tools", type=Path)
    parser.add_argument("--compiler", default="g++")
    arguments = parser.parse_args()
    TOOLS, COMPILER = arguments.tools.resolve(), arguments.compiler
    unittest.main(argv=sys.argv[:1])
