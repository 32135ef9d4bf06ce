# SPDX-License-Identifier: Apache-2.0
"""Judge of the model families: fresh tiny random models of each row of family_models.py (options, windows, experts, scalings),
as Hugging Face folders and, where llama.cpp knows the family, as GGUF files that its own converter made. `tokamak logits` (float32
KV) is at most 1e-4 of a row's largest logit away from transformers. llama.cpp computes the GGUF files too: a second opinion, shown;
it has to agree where the two are meant to be the same.
Run: PYTHON tools/judge_families.py [--build build] [--seeds 3] [NAME...]"""
import argparse
import json
import os
import secrets
import tempfile

import numpy as np
import transformers

import family_gguf
from family_models import MODELS, make
from judge_common import Peer, Report, Tokamak

LIMIT, PEER_LIMIT = 1e-4, 2e-3  # llama.cpp's tables of exp and gelu are float16
# llama.cpp cannot load falcon's biases, has no heads of head_dim != n_embd/n_head in gemma-like shapes...
PEER_DIFFERS = {}


def off(got, want):
    if got.shape != want.shape:
        return float("inf")
    return float((np.abs(got - want).max(-1) / np.abs(want).max(-1)).max())


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--build", default="build")
    args.add_argument("--seeds", type=int, default=3)
    args.add_argument("--first", type=int, default=secrets.randbelow(1 << 30), help="the first seed")
    args.add_argument("names", nargs="*", metavar="NAME")
    args = args.parse_args()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    ours, report = Tokamak(args.build), Report("families")
    print(f"seeds {args.first} to {args.first + args.seeds - 1}")

    def worst(name, gguf, options):
        """The largest differences over the seeds: from transformers, and llama.cpp's from us."""
        result = [0.0, 0.0]
        for seed in range(args.first, args.first + args.seeds):
            with tempfile.TemporaryDirectory() as folder:
                model = os.path.join(folder, "model")
                make(model, name, seed, **options)
                ids, want = json.load(open(f"{model}/tokens.json")), np.load(f"{model}/logits.npy")
                if gguf:
                    family_gguf.convert(model, f"{folder}/m.gguf")
                    model = f"{folder}/m.gguf"
                got = ours.logits(model, ids, "--kv-type", "f32", "--ctx", len(ids))
                result[0] = max(result[0], off(got, want))
                if gguf:
                    try:
                        result[1] = max(result[1], off(Peer(model, len(ids)).logits(ids), got))
                    except Exception as e:
                        result[1] = float("nan")
        return result

    for name in args.names or MODELS:
        d, _ = worst(name, False, {})
        report.figure(f"{name}, folder", d, f"at most {LIMIT}", d <= LIMIT)
        if (options := family_gguf.GGUF.get(name)) is None:
            continue
        d, peer = worst(name, True, options)
        report.figure(f"{name}, GGUF", d, f"at most {LIMIT}", d <= LIMIT)
        report.figure(f"{name}, llama.cpp's difference", peer)
    report.exit()


main()
