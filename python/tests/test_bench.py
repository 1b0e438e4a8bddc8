# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of bench/python: what their rows are judged to show, and a rehearsal of each on a CPU."""

import json
import os
import sys
from pathlib import Path

import pytest

FOLDERS = (parent / "bench" / "python" for parent in Path(__file__).resolve().parents)
sys.path.insert(0, str(next(folder for folder in FOLDERS if folder.is_dir())))

import bench_rows  # noqa: E402
import layer_claims  # noqa: E402


def rows_of(times, setting="graph", model="m"):
    """Rows of {tokens: {implementation: microseconds, None where it did not run}}."""
    return [{"kind": "layer", "setting": setting, "model": model, "tokens": tokens, "implementation": name, "t_us": time,
             "is_own": "comet" not in name, "error": None if time else "no", "host_us": 1, "floor_us": None}
            for tokens, case in times.items() for name, time in case.items()]


GOOD = {4096: {"comet": 100, "eager": 400, "grouped_mm": 120}, 1: {"comet": 10, "eager": None, "grouped_mm": 10}}


@pytest.mark.parametrize("change, sentence", [
    ({}, None),
    ({4096: {"comet": 100, "eager": 104, "grouped_mm": 120}}, "m, 4096 tokens: 1.040 times as fast"),
    ({4096: {"comet": 100, "eager": 110}}, "4096 tokens: 1.100 in the geometric mean"),
    ({4096: {"comet": None, "eager": 110}}, "m, 4096 tokens: not measured"),
    ({1: {"comet": 10, "eager": 9.9}}, "m, 1 tokens: 0.990 times as fast"),
    ({1: {"comet": 10, "comet fused": 5, "eager": 12}}, None),  # not Transformers' own
])
def test_claims_are_judged_by_the_best_of_the_others(change, sentence):
    broken = layer_claims.find_broken_claims(rows_of({**GOOD, **change}), ["m"], ["graph"])
    assert any(sentence in text for text in broken) if sentence else not broken


def test_what_was_not_measured_is_no_claim_that_holds():
    broken = layer_claims.find_broken_claims(rows_of(GOOD), ["m", "n"], ["graph", "stream"])
    assert [text for text in broken if "graph, n, 4096 tokens: not measured" in text]
    assert [text for text in broken if "stream: no row of up to 64 tokens" in text]


def test_files_without_rows_are_one_sentence(tmp_path):
    path = tmp_path / "rows.jsonl"
    for text, words in (("{}\n", "no row of suite s"), ("{\n", "Expecting")):
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            bench_rows.read_rows(path, "s")


@pytest.fixture
def run_layers(monkeypatch, tmp_path, capsys):
    """Runs transformers_layers.py: its exit code, rows, and what it prints."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import transformers_layers

    def run(*arguments):
        path = tmp_path / "rows.jsonl"
        monkeypatch.setattr(sys, "argv", ["transformers_layers.py", "--device", "cpu", "--json", str(path), *arguments])
        code = transformers_layers.main()
        return code, [json.loads(line) for line in path.read_text().splitlines()], capsys.readouterr().out
    return run


def test_a_rehearsal_writes_a_row_for_each_implementation_and_goes_on_after_failures(run_layers, monkeypatch):
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
    right = ALL_EXPERTS_FUNCTIONS["grouped_mm"]
    others = [name for name in ALL_EXPERTS_FUNCTIONS.keys() if name != "grouped_mm" and "comet" not in name]
    monkeypatch.setitem(ALL_EXPERTS_FUNCTIONS, "wrong", lambda *arguments: right(*arguments) * 1.01)
    code, rows, out = run_layers("--models", "olmoe-1b-7b", "--tokens", "3", "--rounds", "1", "--check", "--leave-out",
                                 ",".join(others))
    assert code == 1 and "olmoe-1b-7b, 4096 tokens: not measured" in out
    errors = {(row["setting"], row["implementation"]): row["error"] for row in rows}
    names = ("eager", "grouped_mm", "wrong", "comet", "comet fused")
    assert sorted(errors) == sorted((setting, name) for setting in ("graph", "stream") for name in names)
    assert all("off by" in (error or "") if name == "wrong" else error is None for (_, name), error in errors.items())
    assert all(row["t_us"] > 0 and row["suite"] == "python_layers" for row in rows if row["error"] is None)


def test_a_run_that_is_stopped_shows_what_it_has(run_layers, monkeypatch):
    import devices

    def free(_):
        raise RuntimeError("the GPU is gone")
    monkeypatch.setattr(devices.CpuDevice, "free", free)
    code, rows, out = run_layers("--models", "olmoe-1b-7b,mixtral-8x7b", "--tokens", "1", "--rounds", "1",
                                 "--leave-out", "eager")
    assert code == 1 and {row["model"] for row in rows} == {"olmoe-1b-7b"}
    assert "stream  olmoe-1b-7b" in out


@pytest.fixture
def run_torchrun(monkeypatch, tmp_path, capfd):
    """Runs torchrun_layers.py: its exit code, row, and what it prints."""
    pytest.importorskip("torch.distributed")
    import torchrun_layers

    def run(*arguments):
        path = tmp_path / "rows.jsonl"
        monkeypatch.setattr(sys, "argv", ["torchrun_layers.py", "--device", "cpu", "--json", str(path), *arguments])
        code = torchrun_layers.main()
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return code, rows, capfd.readouterr().err
    return run


def test_ranks_of_torchrun_are_rehearsed(run_torchrun):
    code, (row,), _ = run_torchrun("--ranks", "2", "--tokens", "16", "--rounds", "1")
    assert code == 0 and row["result"] == "passed" and row["ranks"] == 2
    assert row["t_us"] > 0 and row["t_layer_us"] > 0 and row["t_command_us"] > 0


def test_a_program_that_takes_too_long_is_ended_and_named(tmp_path):
    pytest.importorskip("torch")
    from torchrun import run_limited
    program = ("import pathlib, signal, sys, time\n"
               "def end(*_):\n    pathlib.Path(sys.argv[1]).write_text('asked')\n    sys.exit(1)\n"
               "signal.signal(signal.SIGTERM, end)\ntime.sleep(60)")
    ended = tmp_path / "ended"
    with pytest.raises(ValueError, match="^sleeper: has not ended after 2 s$"):
        run_limited([sys.executable, "-c", program, str(ended)], "sleeper", {}, 2)
    assert ended.read_text() == "asked"


def test_expert_parallelism_of_transformers_is_rehearsed(monkeypatch, tmp_path, capfd):
    expert_parallel = pytest.importorskip("transformers.distributed.expert_parallel")
    if not hasattr(expert_parallel, "EPImplementationInterface"):
        pytest.skip("this version of Transformers has no choice of expert parallelism")
    import transformers_ep_layers
    path = tmp_path / "rows.jsonl"
    arguments = ["--device", "cpu", "--ranks", "2", "--tokens", "64,3", "--rounds", "1", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["transformers_ep_layers.py", *arguments])
    assert transformers_ep_layers.main() == 0
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["model"], row["tokens"], row["implementation"]) for row in rows] == [
        (model, tokens, way) for model in transformers_ep_layers.MODELS for tokens in (64, 3)
        for way in transformers_ep_layers.WAYS]
    assert all(row["result"] == "passed" and row["t_us"] > 0 and row["ranks"] == 2 for row in rows)
    monkeypatch.setattr(sys, "argv", ["transformers_ep_layers.py", *arguments[:3], "3", *arguments[4:]])
    assert transformers_ep_layers.main() == 1
    assert "they must divide the 16 experts of qwen3-30b-a3b" in capfd.readouterr().err


def test_cases_that_ranks_cannot_share_are_one_sentence(run_torchrun):
    for arguments, words in ((("--ranks", "3", "--tokens", "16"), "--tokens: 16, a positive multiple of the 3 ranks"),
                             (("--ranks", "3", "--tp", "2"), "--tp: 2, it must divide the 3 ranks")):
        code, rows, err = run_torchrun(*arguments)
        assert code == 1 and not rows and err.startswith(f"torchrun_layers: {words}") and err.count("\n") == 1


def test_processes_that_share_a_gpu_have_an_mps_of_their_own(monkeypatch, tmp_path):
    import mps
    fake = Path(__file__).resolve().parents[2] / "tests" / "cli" / "fake_mps.py"
    if not fake.exists():
        pytest.skip("a packed folder has no stand-in for MPS")
    (tmp_path / mps.CONTROL).symlink_to(fake)
    record = tmp_path / "record"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_MPS_RECORD", str(record))
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    with mps.private_mps():
        folder = Path(os.environ["CUDA_MPS_PIPE_DIRECTORY"])
        assert folder.is_dir() and "quit" not in record.read_text()
        with mps.private_mps():  # which is then the user's
            assert os.environ["CUDA_MPS_PIPE_DIRECTORY"] == str(folder)
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ and not folder.exists()
    assert record.read_text().count("daemon") == 1 and record.read_text().endswith("quit\n")
    monkeypatch.setenv("FAKE_MPS", "fail")
    with pytest.raises(ValueError, match="does not start"):
        with mps.private_mps():
            pytest.fail("it started")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="does not start: .*nvidia-cuda-mps-control"):
        with mps.private_mps():
            pytest.fail("it started")
