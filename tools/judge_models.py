# SPDX-License-Identifier: Apache-2.0
"""Judge of the tiny random GPT-2 and LLaMA models: `tokamak logits` against what transformers computes now, and against
the committed logits.npy. The largest difference over the row's largest logit is at most 1e-4 with float32 weights and KV.
Run: PYTHON tools/judge_models.py [--build build]"""
import argparse
import json

import numpy as np
import torch
import transformers

from judge_common import ROOT, Report, Tokamak

LIMIT = 1e-4


def off(got, want):
    return float((np.abs(got - want).max(-1) / np.abs(want).max(-1)).max())


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--build", default="build")
    args = args.parse_args()
    transformers.utils.logging.disable_progress_bar()
    ours, report = Tokamak(args.build), Report("models")
    for folder in sorted((ROOT / "tests" / "data" / "hf").iterdir()):
        ids = json.loads((folder / "tokens.json").read_text())
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.inference_mode():
            now = model(torch.tensor([ids])).logits[0].numpy()
        got = ours.logits(folder, ids)
        for what, want in (("transformers", now), ("committed", np.load(folder / "logits.npy"))):
            d = off(got, want)
            report.figure(f"{folder.name} against {what}", d, f"at most {LIMIT}", got.shape == want.shape and d <= LIMIT)
    report.exit()


main()
