# SPDX-License-Identifier: Apache-2.0
"""Tiny models of Transformers with random weights: as with its own implementation; skipped where it is not."""

import importlib.metadata

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import comet_moe  # noqa: E402
from comet_moe.integrations import transformers as integration  # noqa: E402
from tiny_models import MODELS, make_model  # noqa: E402

@pytest.fixture(autouse=True)
def registered():
    integration.enable(comet_moe.World.local(2))
    yield
    integration.enable()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype, allowed", [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_logits_are_those_of_eager(name, dtype, allowed):
    model, prompt = make_model(name, dtype)
    logits = {}
    with torch.no_grad():
        for implementation in ("eager", "comet"):
            model.set_experts_implementation(implementation)
            logits[implementation] = model(prompt).logits.float()
    scale = logits["eager"].abs().max()
    assert (logits["comet"] - logits["eager"]).abs().max() <= allowed * scale


@pytest.mark.parametrize("name", MODELS)
def test_greedy_generation_gives_the_same_tokens(name):
    model, prompt = make_model(name, torch.float32)
    texts = []
    for implementation in ("eager", "comet"):
        model.set_experts_implementation(implementation)
        texts.append(model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=16,
                                    do_sample=False))
    assert torch.equal(*texts)


def test_calls_reach_comet(monkeypatch):
    calls = []
    moe = comet_moe.moe
    monkeypatch.setattr(comet_moe, "moe", lambda *a, **k: calls.append(1) or moe(*a, **k))
    model, prompt = make_model("Mixtral", torch.float32)
    model.set_experts_implementation("comet")
    with torch.no_grad():
        model(prompt)
    assert len(calls) == 2


def test_experts_of_another_kind_are_refused_by_name():
    model, _ = make_model("Mixtral", torch.float32)
    experts = model.model.layers[0].mlp.experts
    for attribute, value, reason in (("has_bias", True, "biases"), ("is_transposed", True, "transposed"),
                                     ("has_gate", False, "no gate"),
                                     ("act_fn", torch.nn.GELU("tanh"), "activation is GELU")):
        before = getattr(experts, attribute)
        setattr(experts, attribute, value)
        with pytest.raises(NotImplementedError, match=f"Experts: .*{reason}"):
            integration.comet_experts_forward(experts, None, None, torch.zeros(1))
        setattr(experts, attribute, before)


def test_an_old_version_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "4.57.1")
    with pytest.raises(NotImplementedError, match="4.57.1, needs 5.7"):
        integration.enable()
