# SPDX-License-Identifier: Apache-2.0
"""Run by torchrun (test_torchrun.py): models whose experts are spread over the processes give what one process alone
gives; rank 0 says ok."""

import sys

import torch
from torch import distributed
from transformers import AutoModelForCausalLM, logging
from transformers.distributed import DistributedConfig

from comet_moe.integrations.transformers import enable
from tiny_models import make_model

EXPERTS = {"Mixtral": "num_local_experts", "Qwen3Moe": "num_experts"}  # models, and what they call the number


def outputs(model, prompt):
    with torch.no_grad():
        logits = model(prompt).logits
        text = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False)
    return logits, text


def check(name, folder, parallel):
    n, r = distributed.get_world_size(), distributed.get_rank()
    alone, prompt = make_model(name, torch.float32, num_attention_heads=8, num_key_value_heads=8, **{EXPERTS[name]: 8})
    alone.set_experts_implementation("comet")
    if r == 0:
        alone.save_pretrained(f"{folder}/{name}")
    distributed.barrier()
    spread = AutoModelForCausalLM.from_pretrained(f"{folder}/{name}", experts_implementation="comet",
                                                  distributed_config=DistributedConfig(**parallel))
    experts = spread.model.layers[0].mlp.experts
    assert experts.gate_up_proj.to_local().shape[0] == 8 // n
    (logits, text), (own_logits, own_text) = outputs(spread, prompt), outputs(alone, prompt)
    assert (logits - own_logits).abs().max() <= 1e-5 * own_logits.abs().max()
    assert torch.equal(text, own_text)


def check_batches_of_their_own():
    """Processes with different tokens, of one also none, and more than the layer before was made for."""
    from comet_moe.integrations.transformers_ep import ExpertParallelLayer
    n, r = distributed.get_world_size(), distributed.get_rank()
    mesh = distributed.device_mesh.init_device_mesh("cpu", (n, 1), mesh_dim_names=("ep", "tp"))
    experts = make_model("Mixtral", torch.float32, num_local_experts=8)[0].model.layers[0].mlp.experts
    batches = []
    with torch.no_grad():
        for tokens in (3 * r, 100 * (n - r), 1, 70 * r, 300 * (n - r), 64):
            hidden, weights = torch.randn(tokens, 64), torch.rand(tokens, 2)
            ids = torch.rand(tokens, 8).topk(2).indices
            batches.append((hidden, ids, weights, experts(hidden, ids, weights)))
        for name in ("gate_up_proj", "down_proj"):
            own = getattr(experts, name).chunk(n)[r].clone()
            setattr(experts, name, torch.nn.Parameter(own))
        layer = ExpertParallelLayer(experts, mesh["ep"], mesh["tp"], is_one_batch=False)
        for hidden, ids, weights, y in batches:
            torch.testing.assert_close(layer(hidden, ids, weights), y, rtol=1e-4, atol=1e-5)
        few, many = (layer._layers[is_few].max_tokens for is_few in (True, False))
        assert few == 64 < 300 * n <= many, (few, many)


def main():
    enable()
    logging.set_verbosity_error()
    distributed.init_process_group("gloo")
    n = distributed.get_world_size()
    if "ep_implementation" in DistributedConfig.__dataclass_fields__:
        ways = [{"ep_size": n, "ep_implementation": "comet"}, {"ep_size": n, "ep_implementation": "auto"}]
    else:  # Transformers brings the tokens
        ways = [{"enable_expert_parallel": True}]
    for name in EXPERTS:
        for way in ways:
            check(name, sys.argv[1], {"tp_size": n, **way})
    if len(ways) > 1:
        check_batches_of_their_own()
    distributed.barrier()
    if distributed.get_rank() == 0:
        print(f"ok, {n} ranks", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
