#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A chat model of 60 KB for the tests of run and chat: random weights, one token a byte, a ChatML-like
template, 160 tokens of context. Its head knows printable ASCII and the end token only, so that its answers are
text of a kind.

    python3 tools/make_chat_model.py        needs numpy; writes tests/data/chat/
"""
import json
import pathlib
import struct

import numpy as np

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/data/chat"
D, HEADS, KV, FF, LAYERS, VOCAB = 16, 2, 1, 32, 2, 259
START, END, BEGIN = 256, 257, 258
TEMPLATE = ("{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}")


def byte_alphabet():
    """GPT-2's spelling of bytes as visible characters."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(b if b in shown else next(spare)) for b in range(256)]


def weights():
    rng = np.random.default_rng(5)
    w = lambda *shape: (rng.normal(0, 1, shape) * 0.6 / np.sqrt(shape[-1])).astype(np.float32)
    t = {"model.embed_tokens.weight": (rng.normal(0, 1, (VOCAB, D))).astype(np.float32),
         "model.norm.weight": np.ones(D, np.float32), "lm_head.weight": w(VOCAB, D) * 6}
    known = np.zeros(VOCAB, bool)
    known[32:127] = known[END] = True
    t["lm_head.weight"][~known] = 0
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        t |= {p + "input_layernorm.weight": np.ones(D, np.float32), p + "post_attention_layernorm.weight": np.ones(D, np.float32),
              p + "self_attn.q_proj.weight": w(D, D) * 2, p + "self_attn.k_proj.weight": w(D // HEADS * KV, D) * 2,
              p + "self_attn.v_proj.weight": w(D // HEADS * KV, D) * 2, p + "self_attn.o_proj.weight": w(D, D) * 2,
              p + "mlp.gate_proj.weight": w(FF, D) * 2, p + "mlp.up_proj.weight": w(FF, D) * 2,
              p + "mlp.down_proj.weight": w(D, FF) * 2}
    return t


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    header, data = {}, b""
    for name, a in weights().items():
        header[name] = {"dtype": "F32", "shape": list(a.shape), "data_offsets": [len(data), len(data) + a.nbytes]}
        data += a.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (OUT / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    special = [{"id": i, "content": c, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                "special": True} for i, c in ((START, "<|start|>"), (END, "<|end|>"), (BEGIN, "<|begin|>"))]
    files = {
        "config.json": {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": D,
                        "intermediate_size": FF, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
                        "num_key_value_heads": KV, "vocab_size": VOCAB, "max_position_embeddings": 160,
                        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False,
                        "bos_token_id": BEGIN, "eos_token_id": END, "torch_dtype": "float32"},
        "generation_config.json": {"do_sample": True, "temperature": 0.9, "top_k": 30, "eos_token_id": END},
        "tokenizer_config.json": {"bos_token": "<|begin|>", "eos_token": "<|end|>", "chat_template": TEMPLATE},
        "tokenizer.json": {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": {c: i for i, c in enumerate(byte_alphabet())}, "merges": []}},
    }
    for name, content in files.items():
        (OUT / name).write_text(json.dumps(content, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
