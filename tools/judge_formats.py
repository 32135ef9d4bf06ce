# SPDX-License-Identifier: Apache-2.0
"""Judge of the weight formats: random models 512 wide, one a format, against the float32 model of their weights as
gguf-py dequantizes them (K-quants need rows of 256, which SmolLM2's 576 are not).

Where a tier multiplies a format with float32 activations (plain C every format; all tiers float16), the limit is float32's, 1e-4.
Formats of whole numbers otherwise meet activations rounded to 8 bits: the limit is what llama.cpp reaches on the same file, which
rounds them too, and the twentieth more is the luck of two roundings.

Where the CPU has products of bfloat16 pairs, activations are rounded to bfloat16 before a product with bfloat16 weights, by
llama.cpp too. There the truth rounds alike, in a model of one layer: a row
in which nothing lay so near the middle of two numbers that float32's own rounding decided must agree within 1e-4, and
most rows are such. A deep model has no such rows, so there llama.cpp's error is the limit.
Run: PYTHON tools/judge_formats.py [--build build] [NAME...]"""
import argparse
import json
import os
import tempfile
from collections import namedtuple

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T, quants

from judge_common import Errors, Peer, Report, Tokamak, Truth, ggml_quantize

Shape = namedtuple("Shape", "width ff layers heads kv_heads vocab ctx")
WIDE = Shape(width=512, ff=1024, layers=4, heads=8, kv_heads=2, vocab=1000, ctx=256)
# name: (type of most matrices, type of those that makers of files keep finer)
MIXES = {"F16": (T.F16, T.F16), "BF16": (T.BF16, T.BF16), "Q8_0": (T.Q8_0, T.Q8_0), "Q4_0": (T.Q4_0, T.Q4_0), "Q4_1": (T.Q4_1, T.Q4_1),
         "Q4_K": (T.Q4_K, T.Q4_K), "Q6_K": (T.Q6_K, T.Q6_K), "Q4_K_M": (T.Q4_K, T.Q6_K),
         "Q3_K_M": (T.Q3_K, T.Q5_K), "Q2_K_M": (T.Q2_K, T.IQ4_XS)}
NEWER = (T.Q5_0, T.Q5_1, T.IQ4_NL, T.MXFP4, T.Q2_K, T.Q3_K, T.Q5_K, T.IQ4_XS)
MIXES |= {t.name: (t, t) for t in NEWER}
FINER = ("attn_v", "ffn_down", "output", "token_embd")


def k_blocks(rng, shape, t):
    """Random blocks of a K-quant whose weights have mean 0 and standard deviation 0.04 or so: gguf-py cannot quantize."""
    size = gguf.GGML_QUANT_SIZES[t][1]
    n = shape[0] * shape[1] // 256
    q = rng.integers(0, 256, (n, size), dtype=np.uint8)

    def scale(at, mean):
        q[:, at:at + 2] = (mean * np.exp(rng.normal(0, 0.3, n))).astype(np.float16).view(np.uint8).reshape(n, 2)

    if t == T.Q4_K:
        scale(0, 1.6e-4), scale(2, 1.2e-3)
    else:
        scale(208, 3e-5)
    return q.reshape(shape[0], -1)


def matrix(rng, shape, t):
    if t in (T.Q4_K, T.Q6_K):
        return k_blocks(rng, shape, t)
    if t in NEWER:
        return ggml_quantize(t, rng.normal(0, 0.04, shape))
    return quants.quantize(rng.normal(0, 0.04, shape).astype(np.float32), t)


def rounds(ours, path, tier):
    """Does a product of this model take activations that are not float32?"""
    rows = json.loads(ours.text("explain", path, "--json", **tier))
    return any(r["op"].startswith("linear") and not r["operands"].split(",")[0].endswith(" f32") for r in rows)


def worst(us, want):
    """Of each row, the largest difference over the largest logit"""
    return np.abs(us - want).max(-1) / np.abs(want).max(-1)


def write_model(path, shape, usual, finer):
    rng = np.random.default_rng(5)
    g = gguf.GGUFWriter(path, "llama")
    g.add_block_count(shape.layers), g.add_embedding_length(shape.width), g.add_feed_forward_length(shape.ff)
    g.add_context_length(shape.ctx), g.add_vocab_size(shape.vocab)
    g.add_head_count(shape.heads), g.add_head_count_kv(shape.kv_heads), g.add_layer_norm_rms_eps(1e-5)
    g.add_rope_dimension_count(shape.width // shape.heads), g.add_rope_freq_base(10000.0), g.add_tokenizer_model("no_vocab")

    def put(name, rows, cols=shape.width):
        t = finer if name.split(".")[-1] in FINER else usual
        g.add_tensor(name + ".weight", matrix(rng, (rows, cols), t), raw_dtype=t)

    def norm(name):
        g.add_tensor(name + ".weight", rng.normal(1, 0.1, shape.width).astype(np.float32))

    put("token_embd", shape.vocab), put("output", shape.vocab), norm("output_norm")
    kv = shape.width * shape.kv_heads // shape.heads
    for layer in range(shape.layers):
        b = f"blk.{layer}."
        norm(b + "attn_norm"), norm(b + "ffn_norm")
        put(b + "attn_q", shape.width), put(b + "attn_k", kv), put(b + "attn_v", kv), put(b + "attn_output", shape.width)
        put(b + "ffn_gate", shape.ff), put(b + "ffn_up", shape.ff), put(b + "ffn_down", shape.width, shape.ff)
    g.write_header_to_file(), g.write_kv_data_to_file(), g.write_tensors_to_file(), g.close()


def judge(report, ours, name, path):
    ids = np.random.default_rng(6).integers(0, WIDE.vocab, WIDE.ctx).tolist()
    want = Truth(path).logits(ids)
    tiers = {t: {"TOKAMAK_CPU": t} for t in ("plain", "avx2", "avx512")} | {"this machine": {}}
    for label, tier in tiers.items():
        if not rounds(ours, path, tier):
            off = float(worst(ours.logits(path, ids, "--kv-type", "f32", **tier), want).max())
            report.figure(f"{name}, {label}: largest difference over the row's largest logit", off, "at most 1e-4", off <= 1e-4)
    if not rounds(ours, path, {}):
        return
    if name == "BF16":
        judge_rounded(report, ours, name, path.replace(".gguf", "-one.gguf"))
    us = ours.logits(path, ids, "--kv-type", "f32")
    mine, theirs = Errors(), Errors()
    mine.add(want, us), theirs.add(want, Peer(path, WIDE.ctx).logits(ids))
    for what, value, limit in (("relative error", mine.relative(), theirs.relative()), ("mean KL", mine.mean_kl(), theirs.mean_kl())):
        report.figure(f"{name}: {what}", value, f"at most 1.05 x llama.cpp's {limit:.6g}", value <= 1.05 * limit)


def judge_rounded(report, ours, name, path):
    write_model(path, WIDE._replace(layers=1), *MIXES[name])
    ids = np.random.default_rng(6).integers(0, WIDE.vocab, WIDE.ctx).tolist()
    truth = Truth(path)
    truth.round_inputs()
    off = float(np.median(worst(ours.logits(path, ids, "--kv-type", "f32"), truth.logits(ids))))
    report.figure(f"{name}, one layer: the same of the median row, activations of the truth rounded alike", off, "at most 1e-4", off <= 1e-4)
    os.unlink(path)


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--build", default="build")
    args.add_argument("names", nargs="*", metavar="NAME", help=" ".join(MIXES))
    args = args.parse_args()
    ours, report = Tokamak(args.build), Report("formats")
    with tempfile.TemporaryDirectory() as folder:
        for name in args.names or MIXES:
            types = MIXES[name]
            path = os.path.join(folder, name + ".gguf")
            write_model(path, WIDE, *types)
            judge(report, ours, name, path)
            os.unlink(path)
    report.exit()


if __name__ == "__main__":
    main()
