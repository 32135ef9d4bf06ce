# SPDX-License-Identifier: Apache-2.0
"""Judge of the packers: rows packed by Tokamak (bench_formats) and by llama.cpp's own libggml, both unpacked by gguf-py.

The root mean square error of Tokamak's may be at most 0.1 % above llama.cpp's. Also said: how many blocks are the same
bytes (codes under a scale of zero need not be). Run: PYTHON tools/judge_quantizers.py [--build build]"""
import argparse
import os
import pathlib
import subprocess
import tempfile

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, quants

from judge_common import Report, ggml_quantize

TYPES = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "MXFP4", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS")
COLS, ROWS = 1024, 64


def error(x, packed, t):
    y = quants.dequantize(packed.reshape(x.shape[0], -1), t)
    return float(np.sqrt(((y.astype(np.float64) - x) ** 2).sum() / (x.astype(np.float64) ** 2).sum()))


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--build", default="build")
    args = args.parse_args()
    bench = pathlib.Path(args.build).resolve() / "bin" / "bench_formats"
    report, rng = Report("quantizers"), np.random.default_rng(11)
    rows = {"Gaussian": rng.normal(0, 0.03, (ROWS, COLS)),
            "heavy-tailed": rng.normal(0, 0.03, (ROWS, COLS)) * np.exp(rng.normal(size=(ROWS, COLS)))}
    for kind, x in rows.items():
        x = x.astype(np.float32)
        with tempfile.TemporaryDirectory() as folder:
            x.tofile(os.path.join(folder, "in.f32"))
            subprocess.run([bench, os.path.join(folder, "in.f32"), str(COLS), folder], check=True)
            for name in TYPES:
                t = T[name]
                a, b = np.fromfile(os.path.join(folder, name.lower() + ".packed"), np.uint8), ggml_quantize(t, x)
                size = GGML_QUANT_SIZES[t][1]
                same = float((a.reshape(-1, size) == b.reshape(-1, size)).all(1).mean())
                ours, peer = error(x, a, t), error(x, b, t)
                report.figure(f"{name}, {kind} rows: relative error", ours,
                              f"at most 1.001 x llama.cpp's {peer:.6g}; {100 * same:.1f} % of blocks are its bytes", ours <= 1.001 * peer)
    report.exit()


main()
