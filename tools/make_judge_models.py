# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/judge, the twin in `make check` of tools/judge_formats.py and judge_smollm2.py: small random models, one
a weight format, the float32 logits that transformers computes from the weights as gguf-py dequantizes them, and how far
llama.cpp is from them (relative error and mean KL) on the same files.
Run: PYTHON tools/make_judge_models.py (the Python of tools/judge.py)"""
import pathlib

import numpy as np

from judge_common import ROOT, Errors, Peer, Truth
from judge_formats import MIXES, Shape, write_model

OUT = ROOT / "tests" / "data" / "judge"
NARROW = Shape(width=64, ff=64, layers=2, heads=4, kv_heads=2, vocab=100, ctx=64)
WIDE = Shape(width=256, ff=256, layers=1, heads=4, kv_heads=1, vocab=100, ctx=64)  # rows of K-quants hold 256
NAMES = {"F16": NARROW, "BF16": NARROW, "Q8_0": NARROW, "Q4_0": NARROW, "Q4_1": NARROW, "Q4_K_M": WIDE,
         "Q5_0": NARROW, "Q5_1": NARROW, "IQ4_NL": NARROW, "MXFP4": NARROW, "Q3_K_M": WIDE, "Q2_K_M": WIDE}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, shape in NAMES.items():
        path = OUT / f"{name}.gguf"
        write_model(str(path), shape, *MIXES[name])
        ids = [(5 * i * i + 3 * i) % shape.vocab for i in range(shape.ctx)]  # as tests/test_quantized.c has them
        want = np.ascontiguousarray(Truth(path).logits(ids), "<f4")
        pathlib.Path(OUT / f"{name}.f32").write_bytes(want.tobytes())
        e = Errors()
        e.add(want, Peer(path, shape.ctx).logits(ids))
        lines.append(f'{{ "{name}", {shape.vocab}, {shape.ctx}, {e.relative():.6g}, {e.mean_kl():.6g} }},\n')
        print(lines[-1], end="", flush=True)
    (OUT / "peer.inc").write_text("/* name, vocabulary, tokens; llama.cpp's relative error and mean KL: see tools/make_judge_models.py */\n" + "".join(lines))


main()
