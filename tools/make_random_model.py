#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a GGUF of a known model's shape with random weights and no tokenizer, to measure with; it says nothing
sensible. Needs numpy only.

    tools/make_random_model.py SHAPE TYPE FILE      e.g. llama-8b bf16 /tmp/8b.gguf
"""
import struct
import sys

import numpy as np

#         layers, width, MLP, heads, KV heads, head, vocabulary, context, tied
SHAPES = {
    "llama-8b": (32, 4096, 14336, 32, 8, 128, 128256, 8192, False),
    "llama-1b": (16, 2048, 8192, 32, 8, 64, 128256, 8192, True),
    "smollm2": (30, 576, 1536, 9, 3, 64, 49152, 8192, True),
}
# ggml's number of the type, numbers and bytes of a block
TYPES = {"f32": (0, 1, 4), "f16": (1, 1, 2), "q4_0": (2, 32, 18), "q8_0": (8, 32, 34), "bf16": (30, 1, 2)}
CHUNK = 1 << 22  # numbers; each tensor is a tiling of one random chunk


def chunk(kind):
    rng = np.random.default_rng(1)
    x = (rng.standard_normal(CHUNK) * 0.02).astype(np.float32)
    if kind == "f32":
        return x.tobytes()
    if kind == "f16":
        return x.astype(np.float16).tobytes()
    if kind == "bf16":
        return (x.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    block = np.empty((CHUNK // 32, TYPES[kind][2]), np.uint8)
    spread = 0.02 * 3 / (127 if kind == "q8_0" else 8)
    block[:, :2] = np.full((CHUNK // 32, 1), spread, np.float16).view(np.uint8)
    block[:, 2:] = rng.integers(0, 256, (CHUNK // 32, TYPES[kind][2] - 2), np.uint8)
    return block.tobytes()


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


def key(name, value):
    if isinstance(value, str):
        return text(name) + struct.pack("<I", 8) + text(value)
    if isinstance(value, float):
        return text(name) + struct.pack("<If", 6, value)
    return text(name) + struct.pack("<II", 4, value)


def main(shape, kind, path):
    layers, e, f, heads, kv, d, vocab, ctx, tied = SHAPES[shape]
    keys = [("general.architecture", "llama"), ("general.name", f"random {shape}"), ("llama.block_count", layers),
            ("llama.context_length", ctx), ("llama.embedding_length", e), ("llama.feed_forward_length", f),
            ("llama.attention.head_count", heads), ("llama.attention.head_count_kv", kv),
            ("llama.attention.layer_norm_rms_epsilon", 1e-5), ("llama.rope.dimension_count", d),
            ("llama.rope.freq_base", 500000.0), ("llama.vocab_size", vocab)]
    tensors = [("token_embd.weight", (e, vocab), kind), ("output_norm.weight", (e,), "f32")]
    if not tied:
        tensors.append(("output.weight", (e, vocab), kind))
    for i in range(layers):
        for name, dims in (("attn_norm", (e,)), ("attn_q", (e, heads * d)), ("attn_k", (e, kv * d)),
                           ("attn_v", (e, kv * d)), ("attn_output", (heads * d, e)), ("ffn_norm", (e,)),
                           ("ffn_gate", (e, f)), ("ffn_up", (e, f)), ("ffn_down", (f, e))):
            tensors.append((f"blk.{i}.{name}.weight", dims, kind if len(dims) > 1 else "f32"))
    head, at, sizes = [], 0, []
    for name, dims, t in tensors:
        number, block, each = TYPES[t]
        size = int(np.prod(dims)) // block * each
        head.append(text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, number, at))
        sizes.append(size)
        at += (size + 31) // 32 * 32
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(key(*k) for k in keys) + b"".join(head)
    data = {kind: chunk(kind), "f32": np.ones(max(e, 1), np.float32).tobytes()} if kind != "f32" else {kind: chunk(kind)}
    with open(path, "wb") as file:
        file.write(out + b"\0" * (-len(out) % 32))
        for (_, _, t), size in zip(tensors, sizes):
            left = size
            while left:
                left -= file.write(data[t][:left])
            file.write(b"\0" * (-size % 32))


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in SHAPES or sys.argv[2] not in TYPES:
        sys.exit(__doc__ + "\nshapes: " + ", ".join(SHAPES) + "\ntypes: " + ", ".join(TYPES))
    main(*sys.argv[1:])
