# SPDX-License-Identifier: Apache-2.0
"""Tiny models of Transformers with random weights: as with its own implementation; skipped where it is not."""

import gc
import importlib.metadata
import weakref

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


def test_layers_of_a_model_are_made_once_and_go_with_it():
    world = comet_moe.World.local(1)
    integration.enable(world)
    model, prompt = make_model("Mixtral", torch.float32, num_hidden_layers=11)
    model.set_experts_implementation("comet")
    with torch.no_grad():
        for _ in range(3):
            model(prompt)
    assert len(world.kept) == 11
    weights = weakref.ref(model.model.layers[0].mlp.experts.gate_up_proj)
    del model
    gc.collect()
    assert len(world.kept) == 0 and weights() is None


def test_a_model_compiles_whole_once_its_world_is_there():
    integration.enable()
    model, prompt = make_model("Mixtral", torch.float32)
    model.set_experts_implementation("comet")
    with torch.no_grad():
        logits = model(prompt).logits
        assert torch.equal(torch.compile(model, fullgraph=True, backend="aot_eager")(prompt).logits, logits)


def test_ids_of_experts_elsewhere_are_dropped():
    model, _ = make_model("Mixtral", torch.float32)
    model.set_experts_implementation("comet")
    experts = model.model.layers[0].mlp.experts  # 4 of them
    x, weights = torch.ones(1, 64), torch.tensor([[0.5, 0.0]])
    with torch.no_grad():
        alone = experts(x, torch.tensor([[0, 1]]), weights)
        experts._is_expert_parallel = True
        assert torch.allclose(experts(x, torch.tensor([[0, 4]]), weights), alone)


def test_experts_that_nothing_was_done_to_are_not_parallel():
    for change, expected in ((lambda module: None, False),
                             (lambda module: module.register_forward_hook(print), True),
                             (lambda module: module.register_forward_pre_hook(print), True),
                             (lambda module: setattr(module, "forward", print), True)):
        module = torch.nn.Linear(1, 1)
        change(module)
        assert integration._may_be_parallel(module) == expected
        module._is_expert_parallel = not expected  # what a version says counts more
        assert integration._may_be_parallel(module) == (not expected)


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
