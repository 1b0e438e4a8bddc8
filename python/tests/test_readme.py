# SPDX-License-Identifier: Apache-2.0
"""The README's Python is run as it stands there."""

import re
from pathlib import Path

import numpy

import comet_moe


def test_quick_start_runs(tmp_path, monkeypatch, capsys):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(blocks) == 1
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(blocks[0], "README.md", "exec"), names)
    assert (tmp_path / "call.svg").stat().st_size > 1000
    assert "rank" in capsys.readouterr().out
    alone = comet_moe.moe(names["x"], names["topk_ids"], names["topk_weights"], names["w13"], names["w2"])
    numpy.testing.assert_allclose(names["y"], alone, rtol=1e-4, atol=1e-5)
