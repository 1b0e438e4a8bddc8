# SPDX-License-Identifier: Apache-2.0
"""Text from a model whose experts Comet computes, the same as from Transformers' own; under torchrun the experts are
spread over its processes."""

import os
import sys
import tempfile

import torch
import transformers
from torch import distributed

from comet_moe.integrations.transformers import enable


def make_small_model(folder):
    """A Mixtral with few and random weights."""
    torch.manual_seed(1)
    config = transformers.MixtralConfig(vocab_size=128, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                                        num_attention_heads=8, num_key_value_heads=8, num_local_experts=8)
    transformers.MixtralForCausalLM(config).save_pretrained(folder)


def distributed_config(processes):
    """Experts spread over all processes."""
    from transformers.distributed import DistributedConfig
    if "ep_implementation" in DistributedConfig.__dataclass_fields__:
        return DistributedConfig(tp_size=processes, ep_size=processes, ep_implementation="comet")
    return DistributedConfig(tp_size=processes, enable_expert_parallel=True)


def generate(model):
    prompt = torch.arange(3, 16)[None]
    return model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=16, do_sample=False)


def main():
    enable()
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    with tempfile.TemporaryDirectory() as own_folder:
        folder = sys.argv[1] if len(sys.argv) > 1 else own_folder
        if folder == own_folder:
            make_small_model(folder)  # by each process: once they have joined, only the first one saves
        options = {}
        if processes > 1:
            distributed.init_process_group("gloo")
            options["distributed_config"] = distributed_config(processes)
        load = transformers.AutoModelForCausalLM.from_pretrained
        text = generate(load(folder, experts_implementation="comet", **options))
        assert torch.equal(text, generate(load(folder, experts_implementation="eager")))
    print(f"ok: {processes} process{'es' if processes > 1 else ''}, {text.shape[1]} tokens, as Transformers' own\n", end="")
    if processes > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
