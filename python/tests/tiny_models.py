# SPDX-License-Identifier: Apache-2.0
"""Models of Transformers with few and random weights."""

import torch
import transformers

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


def make_model(name, dtype, **sizes):
    """The model and a prompt of two sequences; `sizes` in place of its own."""
    config = getattr(transformers, f"{name}Config")(**{**COMMON, **MODELS[name], **sizes})
    torch.manual_seed(1)
    model = getattr(transformers, f"{name}ForCausalLM")(config).to(dtype).eval()
    prompt = torch.randint(3, COMMON["vocab_size"], (2, 13))
    return model, prompt
