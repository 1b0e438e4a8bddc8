# SPDX-License-Identifier: Apache-2.0
"""Plans, traces, the command and the doctor."""

import contextlib
import json
import os
import subprocess
import sys
import sysconfig
import unittest.mock
import webbrowser
from pathlib import Path

import numpy
import pytest

import comet_moe
from comet_moe import _command, _progress
from conftest import Case


def test_plan_is_a_readable_table():
    case = Case(tokens=64)
    plan = comet_moe.plan(case.ids, 6, hidden=64, intermediate=48, ep=2)
    assert sum(rank["rows"] for rank in plan.data["ranks"]) == 128
    assert plan.data["world"] == 2
    assert "rank" in repr(plan) and len(repr(plan).splitlines()) > 3
    with pytest.raises(ValueError, match="groups: 0, at least 1"):
        comet_moe.plan(case.ids, 6, hidden=64, intermediate=48, groups=0)
    with pytest.raises(ValueError, match="topk_ids: NoneType, an array"):
        comet_moe.plan(None, 6, hidden=64, intermediate=48)
    with pytest.raises(ValueError, match="hidden: 64.5, an integer"):
        comet_moe.plan(case.ids, 6, hidden=64.5, intermediate=48)
    with pytest.raises(IndexError, match="topk_ids|id"):
        comet_moe.plan(numpy.full((8, 2), 6, numpy.int32), 6, hidden=64, intermediate=48)


def test_plan_plots():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    case = Case(tokens=64)
    axes = comet_moe.plan(case.ids, 6, hidden=64, intermediate=48, ep=2).plot()
    assert len(axes[1].patches) == 2


def test_plan_plots_what_it_says():
    """On axes that only note what is drawn on them: matplotlib may not be there."""
    case = Case(tokens=64)
    plan = comet_moe.plan(case.ids, 6, hidden=64, intermediate=48, ep=2)
    first, second = axes = unittest.mock.MagicMock(), unittest.mock.MagicMock()
    assert plan.plot(axes) is axes
    (sent,), (ranks, rows) = first.imshow.call_args.args, second.bar.call_args.args
    assert list(ranks) == [0, 1] and sum(rows) == 128
    tokens_out = [sum(bytes_out) * 1e6 / (64 * 2) for bytes_out in sent]
    assert sent[0][0] == sent[1][1] == 0 and all(0 < tokens <= 32 for tokens in tokens_out)


def test_trace_shows_each_rank(tmp_path):
    case = Case(tokens=200)
    layer = comet_moe.MoeLayer(case.w13, case.w2, topk=2, max_tokens=200, world=comet_moe.World.local(2))
    y, trace = layer.trace(case.x, case.ids, case.weights)
    assert numpy.array_equal(y, layer(case.x, case.ids, case.weights))
    assert {event.rank for event in trace.events} == {0, 1}
    assert trace.seconds_by_kind()["first_gemm"] > 0 and trace.milliseconds > 0
    assert trace._repr_svg_().startswith("<svg") or "<svg" in trace._repr_svg_()
    trace.save(tmp_path / "call.svg")
    trace.save(tmp_path / "call.json")
    assert "traceEvents" in json.loads((tmp_path / "call.json").read_text(encoding="utf-8"))
    with pytest.raises(ValueError, match=".svg or .json"):
        trace.save(tmp_path / "call.png")
    for name in ("call.svg", "call.json"):
        with pytest.raises(comet_moe.FileError, match=rf"^\[trace\] cannot \w+ '.*nowhere/{name}': No such file"):
            trace.save(tmp_path / "nowhere" / name)
    assert "comet on 2 ranks" in repr(trace)


def test_bench_gives_rows():
    rows = comet_moe.bench(experts=4, topk=2, hidden=64, intermediate=64, tokens=64, world="local:2", ep=2,
                           schedules="sequential,comet", groups=1, rounds=1, ungated=False, model=None)
    assert [row["schedule"] for row in rows] == ["sequential", "comet"]
    with pytest.raises(comet_moe.CometError, match="tokens"):
        comet_moe.bench(experts=4, topk=2, hidden=64, intermediate=64, tokens=-1)
    with pytest.raises(comet_moe.CometError, match=r"^\[bench\] flags: with --help [^\n]*$"):
        comet_moe.bench(help=True)


def test_bench_shows_progress_by_tqdm(monkeypatch):
    """By a class that notes what tqdm would show: tqdm may not be there."""
    shown = []

    class Bar:
        def __init__(self, total, **_):
            self.n = 0
            assert total == 100

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def set_description(self, text, refresh):
            shown.append((self.n, text))

        def update(self, more):
            self.n += more

    monkeypatch.setattr(_command, "tqdm_or_none", lambda: Bar)
    rows = comet_moe.bench(experts=4, topk=2, hidden=64, intermediate=64, tokens=64, world="local:2", ep=2,
                           schedules="sequential,comet", groups=1, rounds=3)
    assert len(rows) == 2 and len(shown) > 3
    percents = [percent for percent, _ in shown]
    assert percents == sorted(percents) and percents[-1] > 50
    assert all(": " in text and "\x1b" not in text for _, text in shown)
    with pytest.raises(comet_moe.CometError, match="^comet: .*tokens[^\r\n]*$"):
        comet_moe.bench(experts=4, topk=2, hidden=64, intermediate=64, tokens=-1)


class SilentBar(contextlib.ExitStack):
    """What is used of tqdm's class."""
    n = 0

    def __init__(self, **_):
        super().__init__()

    def set_description(self, *_, **__):
        pass

    def update(self, _):
        pass


def test_bench_by_tqdm_has_the_commands_environment(monkeypatch):
    monkeypatch.setattr(_command, "tqdm_or_none", lambda: SilentBar)
    monkeypatch.setattr(_command._nvshmem, "environment", lambda: {**os.environ, "COMET_TIMEOUT_MS": "soon"})
    with pytest.raises(comet_moe.CometError, match="COMET_TIMEOUT_MS='soon'"):
        comet_moe.bench(experts=4, topk=2, hidden=64, intermediate=64, tokens=64)


def test_an_interrupt_ends_the_program_that_is_shown_by_tqdm(tmp_path):
    class Bar(SilentBar):
        def set_description(self, *_, **__):
            raise KeyboardInterrupt

    script = f"echo $$ > {tmp_path}/id; printf '\\r\\033[K[#]  1 %%  case: phase\\r' >&2; exec sleep 60"
    with pytest.raises(KeyboardInterrupt):
        _progress.run_with_bar(Bar, ["sh", "-c", script], dict(os.environ))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "id").read_text()), 0)


def test_trace_shows_itself_in_the_browser(monkeypatch):
    case = Case(tokens=40)
    layer = comet_moe.MoeLayer(case.w13, case.w2, topk=2, max_tokens=40)
    _, trace = layer.trace(case.x, case.ids, case.weights)
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    trace.show()
    path = Path(opened[0].removeprefix("file://"))
    assert "<svg" in path.read_text(encoding="utf-8")
    path.unlink()


def test_doctor_says_what_is_there():
    report = comet_moe.doctor()
    assert report["version"] == comet_moe.__version__
    assert {"cpu", "cuda"} <= {backend["name"] for backend in report["backends"]}
    numpy_line = next(p for p in report["python"]["packages"] if p["name"] == "numpy")
    assert numpy_line["version"] == numpy.__version__
    printed = subprocess.run([sys.executable, "-m", "comet_moe.doctor"], check=True, text=True,
                             stdout=subprocess.PIPE).stdout
    assert "backends" in printed and f"numpy      {numpy.__version__}" in printed
    import comet_moe.doctor as module
    both = module(), comet_moe.doctor()
    for each in both:
        assert each["machine"].pop("available_bytes") > 0  # others may take or give some meanwhile
    assert both[0] == both[1]


def run_doctor(*arguments, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run([sys.executable, "-m", "comet_moe.doctor", *arguments], check=False, text=True, timeout=60,
                          **options)


def test_doctor_takes_arguments():
    assert json.loads(run_doctor("--json").stdout)["python"] == comet_moe.doctor()["python"]
    shown = run_doctor("--help")
    assert shown.returncode == 0 and "--json" in shown.stdout and "backends" not in shown.stdout
    for unknown in ("--jsonn", "--js", "all"):
        refused = run_doctor(unknown)
        assert refused.returncode == 2 and not refused.stdout
        assert refused.stderr == (f"comet_moe.doctor: unrecognized arguments: {unknown}: see comet_moe.doctor "
                                  "--help\n")


def test_doctor_is_quiet_where_nobody_reads():
    for arguments in ([], ["--json"], ["--help"]):
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w") as closed:
            done = run_doctor(*arguments, stdout=closed)
        assert done.returncode == 1 and done.stderr == ""
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = run_doctor(*arguments, stdout=full)
        assert done.returncode == 1
        assert done.stderr == "comet_moe.doctor: cannot write to standard output: No space left on device\n"


def test_the_command_is_installed():
    script = Path(sysconfig.get_path("scripts")) / "comet"
    for command in ([script], [sys.executable, "-m", "comet_moe.command"]):
        done = subprocess.run([*command, "info"], check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert done.stdout.startswith(f"comet {comet_moe.__version__}")
        assert done.stderr == ""


def test_errors_of_the_command_are_its_sentence():
    with pytest.raises(comet_moe.CometError, match="comet: .*fast"):
        _command.run("info", "--model", "fast")
