# SPDX-License-Identifier: Apache-2.0
"""What calls run with where their options are left to choose: the profile's choice, in NumPy and in PyTorch alike."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import comet_moe
from conftest import Case

TOKENS, RANKS = 256, 2
PROFILED = {"groups": 3, "panel": 96, "chunk": 16, "n_c_dispatch": 0, "n_c_combine": 1}


def make_case():
    return Case(tokens=TOKENS, hidden=256, seed=5)


def profile_of(case):
    """A profile of this processor, for one layer and one number of tokens: choices that nobody else would make."""
    device = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    best = {"t_layer_us": 1.0, "block_m": 0, "block_n": 0, **PROFILED, "placement": "warps"}
    row = {"model": "case", "hidden": case.x.shape[1], "intermediate": case.inter, "experts": case.experts,
           "topk": case.topk, "dtype": "f32", "gated": True, "tokens": TOKENS, "ep": RANKS, "tp": 1, "link": "native",
           "workers": max(1, len(os.sched_getaffinity(0)) // RANKS), "ranks_per_device": RANKS, "schedule": "comet", "best": best, "runner_up": None,
           "commit": "test", "date": "2026-01-01T00:00:00Z"}
    return {"format": "comet-profile", "version": 2, "backend": "cpu", "device": device.split(": ", 1)[1],
            "world": "local", "machine": None, "rows": [row]}


def run_calls(path):
    """Of a process that has the profile: what each call ran with, and its result, by name."""
    code = (f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_choices; "
            "test_choices.report_calls()")
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "COMET_PROFILE": str(path)},
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def report_calls():
    """Calls with and without options of their own; runs in a process of its own."""
    case = make_case()
    world = comet_moe.World.local(RANKS)
    layer = comet_moe.MoeLayer(case.w13, case.w2, topk=2, max_tokens=4 * TOKENS, world=world)
    calls = {"chosen": {}, "one group": {"groups": 1}, "own panel": {"panel": 64, "n_c_combine": 0},
             "many tokens": {"expected_tokens": 100 * TOKENS}, "sequential": {"schedule": "sequential"}}
    report = {}
    for name, options in calls.items():
        y = layer(case.x, case.ids, case.weights, **options)
        report[name] = {**layer.stats[0], "y": y.tobytes().hex()}
    y, trace = layer.trace(case.x, case.ids, case.weights)
    report["traced"] = {"groups": 1 + max(event.group for event in trace.events), "y": y.tobytes().hex()}
    report["traced"]["explained"] = layer.explain_choice(TOKENS)
    for name, arrays in arrays_by_library(case).items():
        y = comet_moe.moe(*arrays, world=world)
        kept = world.kept.find_or_make(TOKENS, case.topk, [arrays[3]], [arrays[4]], 0, 1, "silu", "gate_up", "after_down")
        report[f"moe, {name}"] = {**kept.stats()[0], "y": numpy.asarray(y).tobytes().hex()}
    print(json.dumps(report))


def arrays_by_library(case):
    arrays = {"numpy": case.arguments()}
    if importlib.util.find_spec("torch"):
        import torch
        arrays["torch"] = [torch.from_numpy(array.copy()) for array in case.arguments()]
    return arrays


def of_choice(stats):
    return {key: stats[key] for key in PROFILED}


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    path = tmp_path_factory.mktemp("profile") / "profile.json"
    path.write_text(json.dumps(profile_of(make_case())))
    return run_calls(path)


def test_a_call_runs_with_what_the_profile_says(calls):
    assert of_choice(calls["chosen"]) == PROFILED
    assert calls["chosen"]["schedule"] == "comet"
    assert calls["traced"]["groups"] == PROFILED["groups"]
    assert "groups 3, panel 96" in calls["traced"]["explained"] and "measured" in calls["traced"]["explained"]


def test_functions_and_the_operator_take_it_too(calls):
    names = [name for name in calls if name.startswith("moe, ")]
    assert names and all(of_choice(calls[name]) == PROFILED for name in names)


def test_options_of_a_call_override_the_profile(calls):
    assert calls["one group"]["groups"] == 1 and calls["one group"]["panel"] != PROFILED["panel"]
    own = calls["own panel"]
    assert (own["groups"], own["panel"], own["n_c_combine"]) == (3, 64, 0)
    assert calls["sequential"]["schedule"] == "sequential" and calls["sequential"]["groups"] == 1


def test_bits_do_not_depend_on_choices(calls):
    assert len({call["y"] for call in calls.values()}) == 1


def test_without_a_profile_the_model_chooses(calls, tmp_path):
    others = run_calls(tmp_path / "none.json")
    assert of_choice(others["chosen"]) != PROFILED
    assert "PREDICTED" in others["traced"]["explained"]
    assert others["chosen"]["y"] == calls["chosen"]["y"]


def test_a_slow_link_gets_groups_by_itself():
    case = Case(tokens=2048, hidden=512, inter=704, experts=8, seed=3)
    layer = comet_moe.MoeLayer(case.w13, case.w2, topk=2, max_tokens=2048,
                               world=comet_moe.World.local(2, link="paced:0.05"), workers=1)
    y = layer(case.x, case.ids, case.weights)
    assert layer.stats[0]["groups"] > 1
    assert numpy.array_equal(layer(case.x, case.ids, case.weights, schedule="sequential"), y)


def test_unknown_placements_are_refused():
    case = Case()
    layer = comet_moe.MoeLayer(case.w13, case.w2, topk=2, max_tokens=64)
    with pytest.raises(ValueError, match="placement"):
        layer(case.x, case.ids, case.weights, placement="threads")
