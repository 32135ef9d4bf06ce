# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/models: one tiny random model in every form that Tokamak reads, and what its weights are.

Truth comes from numpy and PyPI's gguf and safetensors, never from Tokamak: NAME.truth has a line
"role layer rows cols row sum first last" for some rows of each weight, as the file's own library reads them back."""
import json
import os
import struct
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T, quants
from judge_common import ggml_quantize
from safetensors.numpy import save_file

out = sys.argv[1] if len(sys.argv) > 1 else "tests/data/models"
os.makedirs(out, exist_ok=True)
rng = np.random.default_rng(7)


def path(*parts):
    p = os.path.join(out, *parts)
    os.makedirs(os.path.dirname(p), exist_ok=True)
    return p


def half_bf16(x):
    u = x.astype(np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def write_truth(name, rows):
    with open(path(f"{name}.truth"), "w") as f:
        for role, layer, w in rows:
            w = np.atleast_2d(w)
            for row in sorted({0, w.shape[0] // 2, w.shape[0] - 1}):
                x = w[row].astype(np.float32)
                print(role, layer, *w.shape, row, f"{x.astype(np.float64).sum():.9g} {x[0]:.9g} {x[-1]:.9g}", file=f)


class Shape:
    def __init__(self, layers, d, heads, kv, hd, ff, vocab, ctx):
        self.layers, self.d, self.heads, self.kv, self.hd, self.ff, self.vocab, self.ctx = layers, d, heads, kv, hd, ff, vocab, ctx


def random(*shape):
    return (rng.normal(size=shape) * 0.1).astype(np.float32)


def llama(s, bias=False, tied=False):
    """Weights by (role, layer), [out, in]."""
    w = {("embed", 0): random(s.vocab, s.d), ("norm_out", 0): random(s.d)}
    if not tied:
        w[("head", 0)] = random(s.vocab, s.d)
    q, kv = s.heads * s.hd, s.kv * s.hd
    for i in range(s.layers):
        for role, shape in {"norm1": (s.d,), "q": (q, s.d), "k": (kv, s.d), "v": (kv, s.d), "o": (s.d, q), "norm2": (s.d,),
                            "gate": (s.ff, s.d), "up": (s.ff, s.d), "down": (s.d, s.ff)}.items():
            w[(role, i)] = random(*shape)
        if bias:
            for role, n in {"q.b": q, "k.b": kv, "v.b": kv, "o.b": s.d, "gate.b": s.ff, "up.b": s.ff, "down.b": s.d}.items():
                w[(role, i)] = random(n)
    return w


def gpt2(s):
    w = {("embed", 0): random(s.vocab, s.d), ("pos_embed", 0): random(s.ctx, s.d), ("norm_out", 0): random(s.d), ("norm_out.b", 0): random(s.d)}
    for i in range(s.layers):
        for role, shape in {"norm1": (s.d,), "norm1.b": (s.d,), "q": (s.d, s.d), "k": (s.d, s.d), "v": (s.d, s.d), "q.b": (s.d,), "k.b": (s.d,),
                            "v.b": (s.d,), "o": (s.d, s.d), "o.b": (s.d,), "norm2": (s.d,), "norm2.b": (s.d,), "up": (s.ff, s.d), "up.b": (s.ff,),
                            "down": (s.d, s.ff), "down.b": (s.d,)}.items():
            w[(role, i)] = random(*shape)
    return w


HF_LLAMA = {"embed": "model.embed_tokens.weight", "norm_out": "model.norm.weight", "head": "lm_head.weight", "norm1": "model.layers.{}.input_layernorm.weight",
            "norm2": "model.layers.{}.post_attention_layernorm.weight", "q": "model.layers.{}.self_attn.q_proj.weight",
            "k": "model.layers.{}.self_attn.k_proj.weight", "v": "model.layers.{}.self_attn.v_proj.weight", "o": "model.layers.{}.self_attn.o_proj.weight",
            "gate": "model.layers.{}.mlp.gate_proj.weight", "up": "model.layers.{}.mlp.up_proj.weight", "down": "model.layers.{}.mlp.down_proj.weight"}
for r in ("q", "k", "v", "o", "gate", "up", "down"):
    HF_LLAMA[r + ".b"] = HF_LLAMA[r].replace(".weight", ".bias")
GGUF_LLAMA = {"embed": "token_embd.weight", "norm_out": "output_norm.weight", "head": "output.weight", "norm1": "blk.{}.attn_norm.weight",
              "norm2": "blk.{}.ffn_norm.weight", "q": "blk.{}.attn_q.weight", "k": "blk.{}.attn_k.weight", "v": "blk.{}.attn_v.weight",
              "o": "blk.{}.attn_output.weight", "gate": "blk.{}.ffn_gate.weight", "up": "blk.{}.ffn_up.weight", "down": "blk.{}.ffn_down.weight"}


def llama_config(s, **more):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": s.d, "intermediate_size": s.ff, "num_hidden_layers": s.layers,
            "num_attention_heads": s.heads, "num_key_value_heads": s.kv, "head_dim": s.hd, "vocab_size": s.vocab, "max_position_embeddings": s.ctx,
            "rms_norm_eps": 1e-5, "rope_theta": 5000.0, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": [2, 3], **more}


def write_json(value, *parts):
    with open(path(*parts), "w") as f:
        json.dump(value, f, indent=1)


def hf_llama_single(s):
    w = llama(s, bias=True)
    name = "hf-llama"
    save_file({HF_LLAMA[r].format(i): x for (r, i), x in w.items()}, path(name, "model.safetensors"), {"format": "pt"})
    write_json(llama_config(s, attention_bias=True, mlp_bias=True, tie_word_embeddings=False,
                            rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                          "original_max_position_embeddings": 8}), name, "config.json")
    write_json({"eos_token_id": [3, 5], "temperature": 0.6, "top_p": 0.9, "do_sample": True}, name, "generation_config.json")
    write_json({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}, "pad_token": None,
                "chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "{{ messages[0].content }}"}]},
               name, "tokenizer_config.json")
    write_truth(name, [(r, i, x) for (r, i), x in w.items()])


def hf_llama_sharded(s):
    """bfloat16, tied, transformers 5 keys, three shards; written by hand since numpy has no bfloat16"""
    w = llama(s, tied=True)
    name, shards, where = "hf-sharded", 3, {}
    tensors = list(w.items())
    for k in range(shards):
        file = f"model-{k + 1:05}-of-{shards:05}.safetensors"
        header, data = {"__metadata__": {"format": "pt"}}, b""
        for (r, i), x in tensors[k::shards]:
            raw = half_bf16(x).tobytes()
            header[HF_LLAMA[r].format(i)] = {"dtype": "BF16", "shape": list(x.shape), "data_offsets": [len(data), len(data) + len(raw)]}
            where[HF_LLAMA[r].format(i)] = file
            data += raw
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(path(name, file), "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text + data)
    write_json({"metadata": {"total_size": 1}, "weight_map": where}, name, "model.safetensors.index.json")
    config = llama_config(s, tie_word_embeddings=True, dtype="bfloat16", rope_parameters={"rope_theta": 7000.0, "rope_type": "linear", "factor": 2.0})
    del config["rope_theta"]
    write_json(config, name, "config.json")
    with open(path(name, "chat_template.jinja"), "w") as f:
        f.write("{{ bos_token }}newer\n")
    write_json({"chat_template": "older"}, name, "tokenizer_config.json")
    write_truth(name, [(r, i, (half_bf16(x).astype(np.uint32) << 16).view(np.float32)) for (r, i), x in w.items()])


def hf_gpt2(s, prefix):
    w = gpt2(s)
    name = "hf-gpt2" if prefix else "hf-gpt2-bare"
    t = {prefix + "wte.weight": w["embed", 0], prefix + "wpe.weight": w["pos_embed", 0], prefix + "ln_f.weight": w["norm_out", 0],
         prefix + "ln_f.bias": w["norm_out.b", 0]}
    for i in range(s.layers):
        h = f"{prefix}h.{i}."
        t[h + "ln_1.weight"], t[h + "ln_1.bias"], t[h + "ln_2.weight"], t[h + "ln_2.bias"] = (w[r, i] for r in ("norm1", "norm1.b", "norm2", "norm2.b"))
        t[h + "attn.c_attn.weight"] = np.ascontiguousarray(np.concatenate([w["q", i], w["k", i], w["v", i]]).T)
        t[h + "attn.c_attn.bias"] = np.concatenate([w["q.b", i], w["k.b", i], w["v.b", i]])
        t[h + "attn.bias"] = np.ones((1, 1, 2, 2), np.uint8)  # the causal mask that old files carry
        for theirs, ours in {"attn.c_proj": "o", "mlp.c_fc": "up", "mlp.c_proj": "down"}.items():
            t[h + theirs + ".weight"], t[h + theirs + ".bias"] = np.ascontiguousarray(w[ours, i].T), w[ours + ".b", i]
    t = {k: v.astype(np.float16) if prefix == "" and v.dtype == np.float32 else v for k, v in t.items()}
    save_file(t, path(name, "model.safetensors"))
    write_json({"model_type": "gpt2", "n_embd": s.d, "n_layer": s.layers, "n_head": s.heads, "n_positions": s.ctx, "n_ctx": s.ctx, "n_inner": s.ff,
                "vocab_size": s.vocab, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "scale_attn_by_inverse_layer_idx": True,
                "bos_token_id": 50256, "eos_token_id": 50256}, name, "config.json")
    write_truth(name, [(r, i, x if prefix else x.astype(np.float16)) for (r, i), x in w.items()])


SMALL, WIDE = (T.Q5_0, T.Q5_1, T.IQ4_NL, T.MXFP4), (T.Q2_K, T.Q3_K, T.Q5_K, T.IQ4_XS)
NEWER = SMALL + WIDE


def encode(x, t):
    if t == T.BF16:
        return half_bf16(x).view(np.uint8).reshape(x.shape[0], -1), (half_bf16(x).astype(np.uint32) << 16).view(np.float32)
    if t in (T.F32, T.F16):
        y = x.astype(np.float32 if t == T.F32 else np.float16)
        return y, y.astype(np.float32)
    if t in (T.Q4_K, T.Q6_K):  # gguf has no quantizer for these: any valid blocks do
        size = gguf.GGML_QUANT_SIZES[t][1]
        q = rng.integers(0, 256, (x.shape[0] * x.shape[1] // 256, size), dtype=np.uint8)
        for at in ([0, 2] if t == T.Q4_K else [208]):
            q[:, at : at + 2] = np.full(len(q), 0.001, np.float16).view(np.uint8).reshape(-1, 2)
        q = q.reshape(x.shape[0], -1)
    elif t in NEWER:
        q = ggml_quantize(t, x)
    else:
        q = quants.quantize(x, t)
    return q, quants.dequantize(q, t)


def gguf_llama(s, name, pick, rope_freqs=False, tokenizer=False, scaling=None, parts_of=0):
    w = llama(s, tied=rope_freqs)
    g = gguf.GGUFWriter(path(name + ".gguf"), "llama", split_max_tensors=parts_of)
    g.add_name("tiny " + name)
    g.add_block_count(s.layers), g.add_embedding_length(s.d), g.add_feed_forward_length(s.ff), g.add_context_length(s.ctx)
    g.add_head_count(s.heads), g.add_head_count_kv(s.kv), g.add_key_length(s.hd), g.add_value_length(s.hd), g.add_vocab_size(s.vocab)
    g.add_layer_norm_rms_eps(1e-5), g.add_rope_freq_base(5000.0), g.add_rope_dimension_count(s.hd)
    if rope_freqs:
        g.add_tensor("rope_freqs.weight", np.linspace(1, 2, s.hd // 2, dtype=np.float32))
    if scaling:
        g.add_rope_scaling_type(scaling), g.add_rope_scaling_factor(4.0), g.add_rope_scaling_orig_ctx_len(8)
    if tokenizer:
        add_tokenizer(g)
    truth = []
    for (r, i), x in w.items():
        t = T.F32 if x.ndim == 1 else pick(r, x.shape)
        if x.ndim == 1:
            raw = real = x
        else:
            raw, real = encode(x, t)
        g.add_tensor(GGUF_LLAMA[r].format(i), raw, raw_dtype=t)
        truth.append((r, i, real))
    g.write_header_to_file(), g.write_kv_data_to_file(), g.write_tensors_to_file(), g.close()
    write_truth(name, truth)


def gguf_gpt2(s, t):
    w = gpt2(s)
    name = "gguf-gpt2"
    g = gguf.GGUFWriter(path(name + ".gguf"), "gpt2")
    g.add_block_count(s.layers), g.add_embedding_length(s.d), g.add_feed_forward_length(s.ff), g.add_context_length(s.ctx)
    g.add_head_count(s.heads), g.add_layer_norm_eps(1e-5)
    truth = [(r, i, x) for (r, i), x in w.items() if x.ndim == 1]

    def put(their, x, roles, i):
        raw, real = encode(x, t)
        g.add_tensor(their, raw, raw_dtype=t)
        for k, r in enumerate(roles):
            n = real.shape[0] // len(roles)
            truth.append((r, i, real[k * n : (k + 1) * n]))

    for r, n in {"embed": "token_embd.weight", "pos_embed": "position_embd.weight"}.items():
        put(n, w[r, 0], [r], 0)
    g.add_tensor("output_norm.weight", w["norm_out", 0]), g.add_tensor("output_norm.bias", w["norm_out.b", 0])
    for i in range(s.layers):
        b = f"blk.{i}."
        put(b + "attn_qkv.weight", np.concatenate([w["q", i], w["k", i], w["v", i]]), ["q", "k", "v"], i)
        g.add_tensor(b + "attn_qkv.bias", np.concatenate([w["q.b", i], w["k.b", i], w["v.b", i]]))
        for r, n in {"o": "attn_output", "up": "ffn_up", "down": "ffn_down"}.items():
            put(b + n + ".weight", w[r, i], [r], i)
            g.add_tensor(b + n + ".bias", w[r + ".b", i])
        for r, n in {"norm1": "attn_norm", "norm2": "ffn_norm"}.items():
            g.add_tensor(b + n + ".weight", w[r, i]), g.add_tensor(b + n + ".bias", w[r + ".b", i])
    g.write_header_to_file(), g.write_kv_data_to_file(), g.write_tensors_to_file(), g.close()
    write_truth(name, truth)


def add_tokenizer(g):
    """byte-level BPE: GPT-2's alphabet and the merges that make "the\""""
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    other = [b for b in range(256) if b not in printable]
    letters = [chr(b) for b in printable] + [chr(256 + i) for i in range(len(other))]
    tokens = letters + ["he", "the", "<|end|>"]
    g.add_tokenizer_model("gpt2"), g.add_tokenizer_pre("gpt-2")
    g.add_token_list(tokens), g.add_token_types([1] * (len(tokens) - 1) + [3])
    g.add_token_merges(["h e", "t he"])
    g.add_bos_token_id(len(tokens) - 1), g.add_eos_token_id(len(tokens) - 1)
    g.add_chat_template("{{ messages[0].content }}<|end|>")


def vocab_only():
    g = gguf.GGUFWriter(path("vocab.gguf"), "gpt2")
    add_tokenizer(g)
    g.write_header_to_file(), g.write_kv_data_to_file(), g.write_tensors_to_file(), g.close()


def llama2c(s, version):
    tied = version == 0
    w = llama(s, tied=tied)
    layers = lambda r: [w[r, i] for i in range(s.layers)]
    numbers = [s.d, s.ff, s.layers, s.heads, s.kv, s.vocab, s.ctx]
    if version == 0:
        header = struct.pack("<7i", *numbers)
        order = [[w["embed", 0]], layers("norm1"), layers("q"), layers("k"), layers("v"), layers("o"), layers("norm2"), layers("gate"), layers("down"),
                 layers("up"), [w["norm_out", 0]], [np.zeros((2, s.ctx, s.hd // 2), np.float32)]]
    else:
        header = struct.pack("<Ii7iB", 0x616B3432, 1, *numbers, tied).ljust(256, b"\0")
        order = [layers("norm1"), layers("norm2"), [w["norm_out", 0]], [w["embed", 0]], layers("q"), layers("k"), layers("v"), layers("o"), layers("gate"),
                 layers("down"), layers("up"), [w["head", 0]]]
    with open(path(f"llama2c-v{version}.bin"), "wb") as f:
        f.write(header + b"".join(x.tobytes() for kind in order for x in kind))
    write_truth(f"llama2c-v{version}", [(r, i, x) for (r, i), x in w.items()])


plain = Shape(2, 16, 4, 2, 4, 24, 20, 16)
blocks = Shape(1, 32, 4, 2, 8, 32, 20, 16)
wide = Shape(1, 256, 2, 1, 16, 32, 6, 16)
hf_llama_single(plain)
hf_llama_sharded(plain)
hf_gpt2(Shape(2, 16, 4, 4, 4, 24, 20, 8), "transformer.")
hf_gpt2(Shape(2, 16, 4, 4, 4, 24, 20, 8), "")
for t in (T.F32, T.F16, T.BF16):
    gguf_llama(plain, f"gguf-{t.name.lower()}", lambda r, shape, t=t: t, rope_freqs=t == T.F16)
for t in (T.Q8_0, T.Q4_0, T.Q4_1):
    scaling = {T.Q4_0: gguf.RopeScalingType.LINEAR, T.Q4_1: gguf.RopeScalingType.YARN}.get(t)
    gguf_llama(blocks, f"gguf-{t.name.lower()}", lambda r, shape, t=t: t, scaling=scaling)
for t in (T.Q4_K, T.Q6_K):
    gguf_llama(wide, f"gguf-{t.name.lower()}", lambda r, shape, t=t: t if shape[1] % 256 == 0 else T.Q8_0 if shape[1] % 32 == 0 else T.F16)
gguf_llama(Shape(1, 16, 2, 2, 8, 16, 259, 16), "gguf-text", lambda r, shape: T.F16, tokenizer=True)
gguf_gpt2(Shape(2, 32, 4, 4, 8, 32, 20, 8), T.Q8_0)
vocab_only()
llama2c(Shape(2, 16, 4, 2, 4, 24, 20, 16), 0)
llama2c(Shape(2, 16, 4, 2, 4, 24, 20, 16), 1)
gguf_llama(Shape(2, 16, 4, 2, 4, 24, 20, 16), "gguf-split", lambda r, shape: T.F16, parts_of=8)
for t in SMALL:
    gguf_llama(blocks, f"gguf-{t.name.lower()}", lambda r, shape, t=t: t)
for t in WIDE:
    gguf_llama(wide, f"gguf-{t.name.lower()}", lambda r, shape, t=t: t if shape[1] % 256 == 0 else T.Q8_0 if shape[1] % 32 == 0 else T.F16)
