# SPDX-License-Identifier: Apache-2.0
"""Judge of the model families: fresh tiny random models of each row of family_models.py (options, windows, experts, scalings) as
Hugging Face folders and, where llama.cpp knows the family, as GGUF files by its own converter. The logits with float32 KV are at
most 1e-4 of a row's largest away from transformers'. llama.cpp's own logits of the GGUF files are a second opinion.
Run: PYTHON tools/judge_families.py [--build build] [--seeds 3] [NAME...]"""
import argparse
import json
import os
import secrets
import tempfile

import numpy as np
import transformers

import family_gguf
from family_models import ALL, make
from judge_common import Peer, Report, Tokamak

LIMIT = 1e-4
EXACT, TABLES = 2e-5, 2e-3  # of llama.cpp: its GELU is a table of float16 numbers
GELU = ("gpt2", "gemma", "starcoder2", "gpt_neox", "falcon", "bloom")
# It rounds yarn's borders for gpt_oss as for others, against the model's own code; the other two it cannot load (a tied head, biases).
APART = ("gpt_oss", "gpt_neox-serial", "qwen3-bias")
LONG = ("phi3-longrope", "phi4-mini")
CTX, F32 = 256, 0  # llama.cpp's shortest context, ggml's number of the type


def off(got, want):
    if got.shape != want.shape:
        return float("inf")
    return float((np.abs(got - want).max(-1) / np.abs(want).max(-1)).max())


class Judge:
    def __init__(self, build, seeds):
        self.ours, self.seeds, self.report = Tokamak(build), seeds, Report("families")

    def logits(self, model, ids, ctx):
        """ctx: longrope's factors are those of this length."""
        return self.ours.logits(model, ids, "--kv-type", "f32", "--ctx", ctx)

    def worst(self, name, options, compare):
        """The largest of compare(folder, ids, transformers' logits, an odd seed?)'s numbers over the seeds."""
        result = []
        for seed in self.seeds:
            with tempfile.TemporaryDirectory() as folder:
                model = os.path.join(folder, "model")
                make(model, name, seed, **options)
                with open(f"{model}/tokens.json") as f:
                    ids = json.load(f)
                result.append(compare(model, ids, np.load(f"{model}/logits.npy"), seed % 2))
        return np.max(result, axis=0)

    def one_folder(self, model, ids, want, _):
        return [off(self.logits(model, ids, len(ids)), want)]

    def one_gguf(self, model, ids, want, fused, name):
        file = f"{model}/model.gguf"
        family_gguf.convert(model, file, family_gguf.WITHOUT.get(name, ()), fused=fused)
        got = self.logits(file, ids, len(ids))
        d = off(got, want)
        if name in APART:
            return d, 0.0
        if name in LONG:
            got = self.logits(file, ids, CTX)
        return d, off(got, Peer(file, CTX, type_k=F32, type_v=F32).logits(ids))

    def family(self, name):
        say = self.report.figure
        d = float(self.worst(name, {}, self.one_folder)[0])
        say(f"{name}, folder", d, f"at most {LIMIT}", d <= LIMIT)
        if (options := family_gguf.GGUF.get(name)) is None:
            return
        d, p = map(float, self.worst(name, options, lambda *a: self.one_gguf(*a, name)))
        say(f"{name}, GGUF", d, f"at most {LIMIT}", d <= LIMIT)
        if name not in APART:
            limit = TABLES if name.startswith(GELU) else EXACT
            say(f"{name}, GGUF, to llama.cpp", p, f"at most {limit}", p <= limit)


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--build", default="build")
    args.add_argument("--seeds", type=int, default=3)
    args.add_argument("--first", type=int, default=secrets.randbelow(1 << 30), help="the first seed")
    args.add_argument("names", nargs="*", metavar="NAME")
    args = args.parse_args()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    print(f"seeds from {args.first}")
    judge = Judge(args.build, range(args.first, args.first + args.seeds))
    for name in args.names or ALL:
        judge.family(name)
    judge.report.exit()


main()
