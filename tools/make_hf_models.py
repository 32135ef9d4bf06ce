# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/hf: tiny random GPT-2 and LLaMA models made and run by Hugging Face transformers on the CPU, the
truth of tests/test_models.c. Each folder has config.json, model.safetensors, tokens.json (a list of ids) and logits.npy
(float32 [tokens, vocab], eager attention). `--rope` writes tests/data/rope_freqs.inc instead: frequencies by
modeling_rope_utils.

Needs torch and transformers (5.x) from PyPI. Weights are scaled up from transformers' initial ones, so that attention is
far from uniform, and norms and biases are random, so that none of them can be left out unnoticed."""
import json
import os
import shutil
import sys

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}

SCALINGS = {  # name: rope parameters (theta 10000, head_dim 16, max_position_embeddings 64)
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 2.5},
    "llama3": LLAMA3,
    "yarn": YARN,
    "yarn, all keys": {**YARN, "beta_fast": 4.0, "beta_slow": 0.5, "attention_factor": 0.75, "truncate": False},
    "yarn, mscale": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.3},
    "yarn, long": {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096},
    "llama3, long": {**LLAMA3, "original_max_position_embeddings": 8192, "factor": 32.0},
}


def llama(**more):
    base = dict(vocab_size=97, hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
                max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2)
    theta = more.pop("theta", 10000.0)
    rope = more.pop("rope", {"rope_type": "default"})
    return LlamaConfig(**{**base, **more}, rope_parameters={"rope_theta": theta, **rope})


def gpt2(**more):
    base = dict(vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2)
    return GPT2Config(**{**base, **more})


MODELS = {  # one has several options on; together they cover each option on and off
    "llama-plain": llama(num_key_value_heads=4),
    "llama-gqa-tied": llama(tie_word_embeddings=True, theta=500000.0),
    "llama-biases": llama(attention_bias=True, mlp_bias=True, num_key_value_heads=1),
    "llama-linear": llama(rope={"rope_type": "linear", "factor": 4.0}, head_dim=4, num_attention_heads=8, num_key_value_heads=2),
    "llama-llama3": llama(rope=LLAMA3, tie_word_embeddings=True, head_dim=16, num_attention_heads=2, num_key_value_heads=1),
    "llama-yarn": llama(rope=YARN, head_dim=16, num_attention_heads=2, num_key_value_heads=2),
    "llama-yarn-keys": llama(rope={**YARN, "beta_fast": 4.0, "beta_slow": 0.5, "attention_factor": 0.75}, attention_bias=True),
    "llama-head-dim": llama(head_dim=12, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True),
    "gpt2-plain": gpt2(),
    "gpt2-inverse": gpt2(scale_attn_by_inverse_layer_idx=True, n_inner=48, n_layer=3),
    "gpt2-untied": gpt2(tie_word_embeddings=False, activation_function="gelu", n_head=2),
    "gpt2-unscaled": gpt2(scale_attn_weights=False, activation_function="relu"),
}


def shake(model, generator):
    """Random everything: matrices of size about 1/sqrt(width), norms around 1, biases around 0."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            r = torch.randn(p.shape, generator=generator)
            if p.ndim == 2:
                p.copy_(r * (0.6 if "emb" in name or "wte" in name or "wpe" in name else 1.2 / p.shape[-1] ** 0.5))
            elif "norm" in name or "ln_" in name:
                p.copy_(r * 0.2 + (0 if name.endswith("bias") else 1))
            else:
                p.copy_(r * 0.2)


def make(out, name, config, seed):
    generator = torch.Generator().manual_seed(seed)
    config._attn_implementation = "eager"
    config.architectures = None
    model = (GPT2LMHeadModel if config.model_type == "gpt2" else LlamaForCausalLM)(config).float().eval()
    shake(model, generator)
    model.tie_weights()
    ids = torch.randint(0, config.vocab_size, (1, 24), generator=generator)
    with torch.no_grad():
        logits = model(ids).logits[0].numpy().astype(np.float32)
        double = model.double()(ids).logits[0].numpy()
    error = (np.abs(logits - double).max(1) / np.abs(double).max(1)).max()
    model.float()
    folder = os.path.join(out, name)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    np.save(os.path.join(folder, "logits.npy"), logits)
    with open(os.path.join(folder, "tokens.json"), "w") as f:
        json.dump(ids[0].tolist(), f)
    print(f"{name:18} |logits| <= {np.abs(logits).max():.3g}, float32 against float64: {error:.2g}")


def rope_table(path):
    enum = {"default": "NONE", "linear": "LINEAR", "llama3": "LLAMA3", "yarn": "YARN"}
    fields = {"factor": "factor", "low_freq_factor": "low_freq", "high_freq_factor": "high_freq", "original_max_position_embeddings": "original_ctx",
              "beta_fast": "beta_fast", "beta_slow": "beta_slow", "attention_factor": "attention_factor", "mscale": "mscale", "mscale_all_dim": "mscale_all"}
    with open(path, "w") as f:
        for name, rope in SCALINGS.items():
            config = llama(head_dim=16, hidden_size=64, num_attention_heads=4, rope=dict(rope))
            init = LlamaRotaryEmbedding.compute_default_rope_parameters if rope["rope_type"] == "default" else ROPE_INIT_FUNCTIONS[rope["rope_type"]]
            freq, factor = init(config)
            known = {**({"beta_fast": 32.0, "beta_slow": 1.0} if rope["rope_type"] == "yarn" else {}), **rope}
            inits = "".join(f", .{fields[k]} = {v}" + ("f" if isinstance(v, float) else "") for k, v in known.items() if k in fields)
            inits += "" if rope.get("truncate", True) is False else ", .truncate = true"
            values = ", ".join(f"{x:.9g}" for x in freq.tolist())
            print(f"/* {name} */\n{{ {{ .dims = 16, .theta = 10000, .scaling = TK_ROPE_{enum[rope['rope_type']]}{inits} }},\n  {factor:.9g}, {{ {values} }} }},", file=f)


if sys.argv[1:2] == ["--rope"]:
    rope_table(sys.argv[2] if len(sys.argv) > 2 else "tests/data/rope_freqs.inc")
else:
    out = sys.argv[1] if len(sys.argv) > 1 else "tests/data/hf"
    os.makedirs(out, exist_ok=True)
    for seed, (name, config) in enumerate(MODELS.items()):
        make(out, name, config, seed)
