# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/formats: truth for the number formats from numpy, PyPI's gguf (its dequantizers) and llama.cpp's
library (its quantizers). NAME.q: random blocks; NAME.f32: what they mean; source.f32: values to pack and NAME.packed: their
blocks; halves.bin: float32 bits (u32), float16 bits (u16), bfloat16 bits (u16). Run by the Python of tools/judge.py."""
import os
import sys

import numpy as np
from gguf import GGMLQuantizationType as T, quants

from judge_common import ggml_quantize

out = sys.argv[1] if len(sys.argv) > 1 else "tests/data/formats"
os.makedirs(out, exist_ok=True)
rng = np.random.default_rng(20240607)


def save(name, array):
    np.ascontiguousarray(array).tofile(os.path.join(out, name))


def half(x):
    return np.frombuffer(np.float16(x).tobytes(), np.uint8)


def blocks(name, size, fields, exponent=False):
    """2 rows of 3 random blocks; at `fields` lie their float16 scales"""
    q = rng.integers(0, 256, (2, 3, size), dtype=np.uint8)
    for block in q.reshape(-1, size):
        for at in fields:
            block[at : at + 2] = half(rng.normal() * 0.02)
    if exponent:
        q[..., 0] = [[0, 1, 2], [120, 127, 250]]
    save(f"{name}.q", q)
    save(f"{name}.f32", quants.dequantize(q.reshape(2, -1), T[name.upper()]).astype(np.float32))


for row in (("q8_0", 34, [0]), ("q4_0", 18, [0]), ("q4_1", 20, [0, 2]), ("q4_k", 144, [0, 2]), ("q6_k", 210, [208])):
    blocks(*row)

source = (rng.normal(size=(2, 256)) * np.exp(rng.normal(size=(2, 256)))).astype(np.float32)
source[1, 32:64] = 0
save("source.f32", source)
NAMES = ("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "mxfp4", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs")
for name in NAMES:
    save(f"{name}.packed", ggml_quantize(T[name.upper()], source))

# bit patterns where rounding to 16 bits is hard: ties, carries into the exponent, subnormals, overflow
bits = set()
for base in (0x00000000, 0x00000001, 0x33000000, 0x33000001, 0x337FFFFF, 0x33800000, 0x387FC000, 0x387FE000, 0x387FFFFF,
             0x38800000, 0x3F7FEFFF, 0x3F7FF000, 0x3F800000, 0x477FE000, 0x477FEFFF, 0x477FF000, 0x477FFFFF, 0x47800000,
             0x7F7F7FFF, 0x7F7F8000, 0x7F7FFFFF, 0x7F800000, 0x3F808000, 0x3F818000, 0x00008000, 0x00018000, 0x007FFFFF):
    for delta in (-2, -1, 0, 1, 2):
        bits.add((base + delta) & 0x7FFFFFFF)
for _ in range(60):
    keep = int(rng.integers(0, 0x7F80)) << 16
    bits.update((keep | 0x8000, keep | 0x7FFF, keep | 0x8001, int(rng.integers(0, 0x7F800000))))
    exponent = int(rng.integers(100, 145)) << 23 | int(rng.integers(0, 1 << 10)) << 13
    bits.update((exponent | 0x1000, exponent | 0x0FFF, exponent | 0x1001))
bits = np.array(sorted(b for b in bits if b <= 0x7F800000), np.uint32)
bits = np.concatenate([bits, bits | 0x80000000])
f = bits.view(np.float32)
with np.errstate(over="ignore", under="ignore"):
    f16 = f.astype(np.float16).view(np.uint16)
wide = bits.astype(np.uint64)  # bfloat16 by exact integers: nearest, ties to even
low, high = wide & 0xFFFF, wide >> 16
bf16 = (high + ((low > 0x8000) | ((low == 0x8000) & (high % 2 == 1)))).astype(np.uint16)
save("halves.bin", np.concatenate([bits.view(np.uint8), f16.view(np.uint8), bf16.view(np.uint8)]))
all16 = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
print("sum of finite float16:", float(np.abs(all16[np.isfinite(all16)]).astype(np.float64).sum()), "values:", len(bits))

for row in (("q5_0", 22, [0]), ("q5_1", 24, [0, 2]), ("iq4_nl", 18, [0]), ("mxfp4", 17, [], True), ("q2_k", 84, [80, 82]),
            ("q3_k", 110, [108]), ("q5_k", 176, [0, 2]), ("iq4_xs", 136, [0])):
    blocks(*row)
