# SPDX-License-Identifier: Apache-2.0
"""Tiny random models of every family that Tokamak reads, as Hugging Face transformers makes and runs them: the configs, and a
function that writes one. Used by make_family_models.py (the committed truth of tests/test_models.c) and judge_families.py
(fresh ones). Widths are small and odd, options vary so that each is on somewhere and off elsewhere; windows are shorter than the
texts, so that they cut."""
import json
import pathlib
import shutil

import numpy as np
import torch
import transformers as T

SHAPE = dict(vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=None)
GEMMA = {**SHAPE, "head_dim": 12, "query_pre_attn_scalar": 9, "pad_token_id": 0}
MOE = dict(num_experts=5, num_experts_per_tok=2, moe_intermediate_size=16)
NEOX = {k: v for k, v in SHAPE.items() if k != "num_key_value_heads"}
FALCON = {k: v for k, v in SHAPE.items() if k not in ("num_key_value_heads", "intermediate_size")}
OPT = dict(vocab_size=97, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64, word_embed_proj_dim=32,
           bos_token_id=1, eos_token_id=2, pad_token_id=1)
BLOOM = dict(vocab_size=97, hidden_size=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)
LONG = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.1, 1.3, 1.7], "long_factor": [1.5, 2.0, 3.0, 5.0],
        "original_max_position_embeddings": 64}
YARN = {"rope_type": "yarn", "rope_theta": 150000.0, "factor": 8.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
        "original_max_position_embeddings": 256}

MODELS = {  # name: (config class, options)
    "mistral": (T.MistralConfig, {**SHAPE, "head_dim": 12, "sliding_window": 7}),
    "mistral-full": (T.MistralConfig, {**SHAPE, "sliding_window": None, "tie_word_embeddings": True}),
    "mixtral": (T.MixtralConfig, {**SHAPE, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}),
    "qwen2": (T.Qwen2Config, {**SHAPE, "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}),
    "qwen2-tied": (T.Qwen2Config, {**SHAPE, "tie_word_embeddings": True}),
    "qwen2_moe": (T.Qwen2MoeConfig, {**SHAPE, **MOE, "shared_expert_intermediate_size": 24, "num_hidden_layers": 3, "mlp_only_layers": [1]}),
    "qwen2_moe-renorm": (T.Qwen2MoeConfig, {**SHAPE, **MOE, "shared_expert_intermediate_size": 24, "norm_topk_prob": True, "qkv_bias": False}),
    "qwen3": (T.Qwen3Config, {**SHAPE, "head_dim": 12}),
    "qwen3-bias": (T.Qwen3Config, {**SHAPE, "head_dim": 8, "attention_bias": True, "tie_word_embeddings": True}),
    "qwen3_moe": (T.Qwen3MoeConfig, {**SHAPE, **MOE, "head_dim": 12, "norm_topk_prob": True}),
    "qwen3_moe-step": (T.Qwen3MoeConfig, {**SHAPE, **MOE, "head_dim": 8, "decoder_sparse_step": 2}),
    "gemma": (T.GemmaConfig, {**SHAPE, "head_dim": 12, "pad_token_id": 0}),
    "gemma2": (T.Gemma2Config, {**GEMMA, "sliding_window": 6}),
    "gemma2-plain": (T.Gemma2Config, {**GEMMA, "attn_logit_softcapping": None, "final_logit_softcapping": None, "attention_bias": True}),
    "gemma3": (T.Gemma3TextConfig, {**GEMMA, "num_hidden_layers": 7, "hidden_size": 16, "intermediate_size": 24, "sliding_window": 6, "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}}),
    "phi3": (T.Phi3Config, {**SHAPE, "pad_token_id": 0, "sliding_window": 11}),
    "phi3-longrope": (T.Phi3Config, {**SHAPE, "pad_token_id": 0, "max_position_embeddings": 256, "original_max_position_embeddings": 64, "rope_parameters": LONG}),
    "phi4-mini": (T.Phi3Config, {**SHAPE, "pad_token_id": 0, "max_position_embeddings": 256, "original_max_position_embeddings": 16, "tie_word_embeddings": True,
                                 "rope_parameters": {**LONG, "partial_rotary_factor": 0.75, "short_factor": [1.0, 1.1, 1.3], "long_factor": [1.5, 2.0, 3.0],
                                                     "original_max_position_embeddings": 16}}),
    "smollm3": (T.SmolLM3Config, {**SHAPE, "num_hidden_layers": 4}),
    "smollm3-listed": (T.SmolLM3Config, {**SHAPE, "no_rope_layers": [0, 1], "attention_bias": True, "tie_word_embeddings": False}),
    "granite": (T.GraniteConfig, {**SHAPE, "embedding_multiplier": 3.0, "residual_multiplier": 0.4, "attention_multiplier": 0.2, "logits_scaling": 2.5}),
    "olmo2": (T.Olmo2Config, SHAPE),
    "starcoder2": (T.Starcoder2Config, {**SHAPE, "sliding_window": 8}),
    "gpt_neox": (T.GPTNeoXConfig, {**NEOX, "hidden_size": 64, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}}),
    "gpt_neox-serial": (T.GPTNeoXConfig, {**NEOX, "use_parallel_residual": False, "tie_word_embeddings": True}),
    "falcon-7b": (T.FalconConfig, FALCON),
    "falcon-40b": (T.FalconConfig, {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "bias": True}),
    "falcon-11b": (T.FalconConfig, {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1, "ffn_hidden_size": 40}),
    "falcon-serial": (T.FalconConfig, {**FALCON, "parallel_attn": False, "multi_query": False, "tie_word_embeddings": False}),
    "opt": (T.OPTConfig, OPT),
    "opt-350m": (T.OPTConfig, {**OPT, "do_layer_norm_before": False, "word_embed_proj_dim": 24}),
    "bloom": (T.BloomConfig, BLOOM),
    "bloom-heads": (T.BloomConfig, {**BLOOM, "n_head": 6, "hidden_size": 48}),
    "gpt_oss": (T.GptOssConfig, {**SHAPE, "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 6, "rope_parameters": YARN}),
}

LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}
GEMMA3 = MODELS["gemma3"][1]
ALL = {**MODELS,  # fresh ones alone, and what only GGUF files add: as folders llama and gpt2 have a zoo of their own (make_hf_models.py)
       "gemma2-old": (T.Gemma2Config, {**GEMMA, "sliding_window": 6}),
       "gemma3-global": (T.Gemma3TextConfig, {**GEMMA3, "num_hidden_layers": 2, "layer_types": ["full_attention"] * 2}),
       "granite-tied": (T.GraniteConfig, {**MODELS["granite"][1], "tie_word_embeddings": True}),
       "qwen2_moe-old": (T.Qwen2MoeConfig, {**SHAPE, **MOE, "intermediate_size": 32, "shared_expert_intermediate_size": 32}),
       "llama": (T.LlamaConfig, {**SHAPE, "rope_parameters": LLAMA3}),
       "gpt2": (T.GPT2Config, dict(vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=64, n_ctx=64, bos_token_id=1, eos_token_id=2))}


def shake(model, generator):
    """Random everything: matrices of size about 1/sqrt(width), norms around their neutral value, biases around 0."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            r = torch.randn(p.shape, generator=generator)
            neutral = 0 if name.endswith("bias") or model.config.model_type.startswith("gemma") else 1
            if p.ndim >= 2 and not name.endswith("proj_bias"):
                p.copy_(r * (0.6 if "emb" in name or "wte" in name or "wpe" in name else 1.2 / p.shape[-1] ** 0.5))
            elif "norm" in name or "ln_" in name:
                p.copy_(r * 0.2 + neutral)
            else:
                p.copy_(r * 0.2)


def make(folder, name, seed, tokens=24, **more):
    """more: further options of the config.
    Writes config.json, model.safetensors (float16), tokens.json, logits.npy (float32); returns the float32 run's own error against float64."""
    folder = pathlib.Path(folder)
    cls, options = ALL[name]
    generator = torch.Generator().manual_seed(seed)
    config = cls(**{**options, **more})
    config._attn_implementation = config._experts_implementation = "eager"
    config.architectures = None
    model = T.AutoModelForCausalLM.from_config(config).float().eval()
    shake(model, generator)
    model.tie_weights()
    with torch.no_grad():  # the numbers that are saved; model.half() would round rope's frequencies as well
        for p in model.parameters():
            p.copy_(p.half().float())
    ids = torch.randint(3, config.vocab_size, (1, tokens), generator=generator)
    with torch.no_grad():
        logits = model(ids).logits[0].numpy().astype(np.float32)
        double = model.double()(ids).logits[0].numpy()
    error = (np.abs(logits - double).max(1) / np.abs(double).max(1)).max()
    shutil.rmtree(folder, ignore_errors=True)
    model.half().save_pretrained(folder)
    for extra in folder.glob("generation_config.json"):
        extra.unlink()
    np.save(folder / "logits.npy", logits)
    (folder / "tokens.json").write_text(json.dumps(ids[0].tolist()))
    return float(error)
