#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A GGUF file of a real model's shape whose weights are noise: for speed, where nothing but shapes and types counts.

    python3 tools/make_shape_model.py SHAPE TYPE OUT.gguf

SHAPE: S (SmolLM2-135M), L (LLaMA-3.2-1B), XL (LLaMA-3-8B), tiny. TYPE: f32 f16 bf16 q8_0 q4_0 q4_1 q4_k q6_k, or q4_k_m: Q4_K with Q6_K where
llama.cpp's mixture of that name has it. The head is tied to the embedding but in XL; as llama.cpp's quantizer does, it keeps more
bits than four (Q8_0 beside Q4_0 and Q4_1 in S, Q6_K in L and beside K-quants). Noise is written as blocks at once, with scales
that give the weights a deviation of 0.02, so that nothing is quantized; a few millions of numbers are repeated, so that a gigabyte
takes a second. The vocabulary is a stub that any text tokenizes with. Needs numpy only."""
import struct
import sys

import numpy as np

#          layers, hidden, heads, KV heads, MLP, vocabulary, context, rope theta, tied
SHAPES = {
    "S": (30, 576, 9, 3, 1536, 49152, 8192, 1e5, True),
    "L": (16, 2048, 32, 8, 8192, 128256, 131072, 5e5, True),
    "XL": (32, 4096, 32, 8, 14336, 128256, 8192, 5e5, False),
    "tiny": (2, 256, 4, 2, 512, 1024, 512, 1e4, True),
}
#           ggml's number, numbers a block, bytes a block
TYPES = {
    "f32": (0, 1, 4), "f16": (1, 1, 2), "bf16": (30, 1, 2), "q8_0": (8, 32, 34), "q4_0": (2, 32, 18), "q4_1": (3, 32, 20),
    "q4_k": (12, 256, 144), "q6_k": (14, 256, 210),
}
FILE_TYPES = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7, "q4_0": 2, "q4_1": 3, "q4_k": 15, "q6_k": 18, "q4_k_m": 15}
U32, FLOAT, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
ALIGN, REPEAT = 32, 1 << 22


def text(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def entry(key, kind, value):
    if kind == ARRAY:
        kind, items = value
        body = b"".join(map(text, items)) if kind == STRING else np.asarray(items, "<f4" if kind == FLOAT else "<i4").tobytes()
        return text(key) + struct.pack("<IIQ", ARRAY, kind, len(items)) + body
    body = text(value) if kind == STRING else struct.pack({U32: "<I", FLOAT: "<f", BOOL: "<?"}[kind], value)
    return text(key) + struct.pack("<I", kind) + body


def f16(x):
    return np.frombuffer(struct.pack("<e", x), np.uint8)


def noise(kind, count, rng):
    """`count` weights of a type: random integers under fixed scales."""
    if kind in ("f32", "f16", "bf16"):
        x = rng.standard_normal(count, dtype=np.float32) * np.float32(0.02)
        return {"f32": lambda: x, "f16": lambda: x.astype("<f2"), "bf16": lambda: (x.view(np.uint32) >> 16).astype("<u2")}[kind]()
    _, numbers, size = TYPES[kind]
    b = np.frombuffer(rng.bytes(count // numbers * size), np.uint8).reshape(-1, size).copy()
    if kind == "q8_0":
        b[:, :2] = f16(0.02 / 73.9)
    elif kind == "q4_0":
        b[:, :2] = f16(0.02 / 4.61)
    elif kind == "q4_1":
        b[:, :2], b[:, 2:4] = f16(0.02 / 4.61), f16(-7.5 * 0.02 / 4.61)
    elif kind == "q4_k":  # scales and minima of 32 each, all alike
        b[:, :2], b[:, 2:4] = f16(0.02 / 4.61 / 32), f16(7.5 * 0.02 / 4.61 / 32)
        b[:, 4:12], b[:, 12:16] = 0x80 | 32, 0
    else:  # q6_k
        b[:, 192:208], b[:, 208:] = 32, f16(0.02 / 18.5 / 32)
    return b


def tensors(shape, kind):
    """(name, columns, rows, type)"""
    layers, e, heads, kv, f, vocab, _, _, tied = SHAPES[shape]
    whole = e % 256 == 0
    base = "q4_k" if kind == "q4_k_m" else kind
    head = {"q4_0": "q6_k" if whole else "q8_0", "q4_1": "q6_k" if whole else "q8_0", "q4_k": "q6_k"}.get(base, base)
    yield "token_embd.weight", e, vocab, head if tied else base
    if not tied:
        yield "output.weight", e, vocab, head
    for i in range(layers):
        more = i < layers // 8 or i >= 7 * layers // 8 or (i - layers // 8) % 3 == 2
        rich = "q6_k" if kind == "q4_k_m" and more else base
        for name, cols, rows, t in (("attn_norm", e, 1, "f32"), ("attn_q", e, e, base), ("attn_k", e, e // heads * kv, base),
                                    ("attn_v", e, e // heads * kv, rich), ("attn_output", e, e, base), ("ffn_norm", e, 1, "f32"),
                                    ("ffn_gate", e, f, base), ("ffn_up", e, f, base), ("ffn_down", f, e, rich)):
            yield f"blk.{i}.{name}.weight", cols, rows, t
    yield "output_norm.weight", e, 1, "f32"


def metadata(shape, kind):
    layers, e, heads, kv, f, vocab, ctx, theta, _ = SHAPES[shape]
    names = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    names += [f"\u2581w{i}" for i in range(vocab - len(names))]
    a = "llama."
    return [
        entry("general.architecture", STRING, "llama"), entry("general.name", STRING, f"{shape} {kind}, noise"),
        entry("general.file_type", U32, FILE_TYPES[kind]), entry("general.quantization_version", U32, 2),
        entry(a + "context_length", U32, ctx), entry(a + "embedding_length", U32, e), entry(a + "block_count", U32, layers),
        entry(a + "feed_forward_length", U32, f), entry(a + "attention.head_count", U32, heads), entry(a + "vocab_size", U32, vocab),
        entry(a + "attention.head_count_kv", U32, kv), entry(a + "rope.dimension_count", U32, e // heads),
        entry(a + "rope.freq_base", FLOAT, theta), entry(a + "attention.layer_norm_rms_epsilon", FLOAT, 1e-5),
        entry("tokenizer.ggml.model", STRING, "llama"), entry("tokenizer.ggml.pre", STRING, "default"),
        entry("tokenizer.ggml.tokens", ARRAY, (STRING, names)),
        entry("tokenizer.ggml.scores", ARRAY, (FLOAT, [0.0] * 259 + [-float(i) for i in range(vocab - 259)])),
        entry("tokenizer.ggml.token_type", ARRAY, (I32, [2, 3, 3] + [6] * 256 + [1] * (vocab - 259))),
        entry("tokenizer.ggml.bos_token_id", U32, 1), entry("tokenizer.ggml.eos_token_id", U32, 2),
        entry("tokenizer.ggml.unknown_token_id", U32, 0), entry("tokenizer.ggml.add_bos_token", BOOL, True),
    ]


def write(shape, kind, path):
    all_tensors, info, at = list(tensors(shape, kind)), [], 0
    for name, cols, rows, t in all_tensors:
        number, numbers, size = TYPES[t]
        dims = (cols,) if rows == 1 else (cols, rows)
        info.append(text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, number, at))
        at += -(-cols * rows // numbers * size // ALIGN) * ALIGN
    meta, rng = metadata(shape, kind), np.random.default_rng(1)
    stock = {t: noise(t, REPEAT, rng).tobytes() for t in {t for _, _, rows, t in all_tensors if rows > 1}}
    with open(path, "wb") as out:
        out.write(b"GGUF" + struct.pack("<IQQ", 3, len(all_tensors), len(meta)) + b"".join(meta) + b"".join(info))
        out.write(bytes(-out.tell() % ALIGN))
        for name, cols, rows, t in all_tensors:
            if rows == 1:
                out.write(np.ones(cols, "<f4").tobytes())
            else:
                left = cols * rows // TYPES[t][1] * TYPES[t][2]
                while left:
                    left -= out.write(stock[t][:left])
            out.write(bytes(-out.tell() % ALIGN))


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in SHAPES or sys.argv[2] not in FILE_TYPES:
        sys.exit(__doc__)
    write(*sys.argv[1:])
