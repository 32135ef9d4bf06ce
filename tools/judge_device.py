#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Judge of a GPU's answers on a real model: SmolLM2 (Q4_1 with a Q8_0 head) as it is, and requantized by llama.cpp's own
quantizer into the types whose kernels a GPU has of its own. For each file, over the committed texts:

- mean KL(truth || GPU) is at most the CPU's in the same run; the truth is float32 by transformers on the dequantized weights;
- at each position of the truth's greedy text for 20 prompts, the GPU's best token is the truth's, unless the truth's top two
  logits are nearer than the error measured on such logits.

Needs a GPU, torch, transformers, gguf and llama-cpp-python (its quantizer): `tools/judge_device.py MODEL.gguf [--bin build/bin]`.
A type takes about half a minute; --types runs some of them, so that several runs go side by side."""
import argparse
import os
import pathlib
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from judge_common import TEXTS, Errors, Report, Tokamak, Truth
from judge_requantized import FILE_TYPES, requantize, types_in

MORE_TYPES = {"Q4_K_M": 15, "Q6_K": 18}  # rows of 576 hold no blocks of 256: llama.cpp falls back to others there
TEXT, PROMPT, ANSWER, AT_ONCE = 256, 64, 64, {"cpu": 2, "cuda": 4}


def logits(ours, model, all_ids, device):
    """Of every list of ids; several at once, since each is a process that opens the model"""
    with ThreadPoolExecutor(AT_ONCE[device]) as pool:
        return list(pool.map(lambda ids: ours.logits(model, ids, "--device", device), all_ids))


def judge(report, ours, name, path, most):
    truth = Truth(path, "cuda")
    texts = []
    for text in sorted(TEXTS.glob("*.txt"))[:most]:
        ids = ours.json("tokenize", path, "-f", text, "--no-special")[:TEXT]
        assert len(ids) == TEXT, f"{text} has {len(ids)} tokens only"
        texts.append(ids)
    cpu, gpu = Errors(), Errors()
    for ids, here, there in zip(texts, logits(ours, path, texts, "cpu"), logits(ours, path, texts, "cuda")):
        want = truth.logits(ids)
        cpu.add(want, here), gpu.add(want, there)
    limit = cpu.mean_kl()
    report.figure(f"{name}: mean KL(truth || GPU)", gpu.mean_kl(), f"at most the CPU's {limit:.6g}", gpu.mean_kl() <= limit)
    report.figure(f"{name}: top-1 agreement with the truth", gpu.agree(), f"CPU {cpu.agree():.4f}")
    report.figure(f"{name}: largest error of the truth's top two logits", gpu.top, f"CPU {cpu.top:.4f}")
    report.figure(f"{name}: relative error of all logits", gpu.relative(), f"CPU {cpu.relative():.6f}")
    answers = [truth.greedy(ids[:PROMPT], ANSWER)[:-1] for ids in texts]
    positions = close = wrong = 0
    widest = 0.0
    for ids, got in zip(answers, logits(ours, path, answers, "cuda")):
        for w, g in zip(truth.logits(ids)[PROMPT - 1:], got[PROMPT - 1:]):
            positions += 1
            second, first = np.sort(w)[-2:]
            if w.argmax() != g.argmax():
                widest = max(widest, float(first - second))
                close += first - second < gpu.top
                wrong += first - second >= gpu.top
    report.figure(f"{name}: other tokens in {positions} of greedy text", close + wrong, f"0 where the truth's top two are "
                  f"{gpu.top:.4f} apart: {wrong}; widest {widest:.4f}", wrong == 0)


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("model")
    args.add_argument("--bin", default="build/bin")
    args.add_argument("--types", default="file,BF16,Q8_0,Q4_0,Q4_K_M,Q6_K", help="'file': as it is")
    args.add_argument("--texts", type=int, default=20, help="how many of the committed texts, and so prompts")
    args = args.parse_args()
    ours, report = Tokamak(pathlib.Path(args.bin).resolve().parent), Report("device")
    file_types = FILE_TYPES | MORE_TYPES
    with tempfile.TemporaryDirectory() as folder:
        for name in args.types.split(","):
            path = args.model
            if name != "file":
                path = os.path.join(folder, name + ".gguf")
                requantize(args.model, path, file_types[name], pure=name in FILE_TYPES)
            judge(report, ours, f"{name} ({' '.join(sorted(types_in(path)))})", path, args.texts)
    report.exit()


main()
