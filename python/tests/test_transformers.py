# SPDX-License-Identifier: Apache-2.0
"""Tiny models of Transformers with random weights: as with its own implementation; skipped where it is not."""

import importlib.metadata

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import comet_moe  # noqa: E402
from comet_moe.integrations import transformers as integration  # noqa: E402

COMMON = {"vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1,
          "eos_token_id": 2}
MODELS = {
    "Mixtral": {"intermediate_size": 96, "num_local_experts": 4, "num_experts_per_tok": 2},
    "Qwen2Moe": {"intermediate_size": 96, "moe_intermediate_size": 32, "num_experts": 8,
                 "num_experts_per_tok": 4, "shared_expert_intermediate_size": 64},
    "Qwen3Moe": {"intermediate_size": 96, "moe_intermediate_size": 32, "num_experts": 8,
                 "num_experts_per_tok": 2, "head_dim": 16},
    "Phimoe": {"intermediate_size": 96, "num_local_experts": 4, "num_experts_per_tok": 2},
    "Olmoe": {"intermediate_size": 32, "num_experts": 8, "num_experts_per_tok": 2},
    "DeepseekV3": {"intermediate_size": 96, "moe_intermediate_size": 32, "n_routed_experts": 8,
                   "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1,
                   "n_shared_experts": 1, "num_key_value_heads": 4, "q_lora_rank": 32, "kv_lora_rank": 32,
                   "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16, "head_dim": 8},
}


@pytest.fixture(autouse=True)
def registered():
    integration.enable(comet_moe.World.local(2))
    yield
    integration.enable()


def make_model(name, dtype):
    config = getattr(transformers, f"{name}Config")(**{**COMMON, **MODELS[name]})
    torch.manual_seed(1)
    model = getattr(transformers, f"{name}ForCausalLM")(config).to(dtype).eval()
    prompt = torch.randint(3, COMMON["vocab_size"], (2, 13))
    return model, prompt


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
                                     ("has_gate", False, "no gate"), ("_is_expert_parallel", True, "processes"),
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
