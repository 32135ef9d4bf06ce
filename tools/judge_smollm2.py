# SPDX-License-Identifier: Apache-2.0
"""Judge of the real model: SmolLM2-135M-Instruct (Q4_1 with a Q8_0 head), as `tokamak pull smollm2` brings it.

The truth is the float32 model that transformers makes of the file by dequantizing it. Tokamak multiplies by weights
in their compressed form with activations rounded to 8 bits, as llama.cpp does, so neither equals the truth; Tokamak
must be as near to it as llama.cpp is. Run: PYTHON tools/judge_smollm2.py [--build build]"""
import argparse

import numpy as np

from judge_common import Errors, Peer, Report, Tokamak, Truth, perplexity, texts

CTX = 512     # windows of perplexity
PROMPT, ANSWER = 64, 64


def divergence(report, ours, model, truth, peers):
    """Mean KL(truth || x) and more over the committed texts. Returns the error of our top two logits."""
    us, them = Errors(), {flash: Errors() for flash in peers}
    for name, ids in texts(peers[False]):
        want = truth.logits(ids)
        us.add(want, ours.logits(model, ids))
        for flash, peer in peers.items():
            them[flash].add(want, peer.logits(ids))
        print(f"      {name:20} KL so far {us.mean_kl():.6f}, llama.cpp {them[False].mean_kl():.6f}", flush=True)
    best = min(them.values(), key=Errors.mean_kl)
    limit = 1.05 * best.mean_kl()
    report.figure("mean KL(truth || Tokamak)", us.mean_kl(), f"at most {limit:.6g} = 1.05 x llama.cpp's", us.mean_kl() <= limit)
    for flash, e in them.items():
        report.figure(f"mean KL(truth || llama.cpp), flash attention {'on' if flash else 'off'}", e.mean_kl())
    report.figure("top-1 agreement with the truth", us.agree(), f"llama.cpp {best.agree():.4f}")
    report.figure("largest logit error", us.worst, f"llama.cpp {best.worst:.4f}")
    report.figure("largest error of the truth's top two logits", us.top, f"llama.cpp {best.top:.4f}")
    report.figure("relative error of all logits", us.relative(), f"llama.cpp {best.relative():.6f}")
    return us.top


def argmax(report, ours, model, truth, peer, error):
    """At each position of the truth's greedy texts Tokamak's best token is the truth's, unless the truth itself is
    undecided: its top two nearer than the error measured on such logits over the texts."""
    positions = close = wrong = 0
    widest = 0.0
    for name, ids in texts(peer, PROMPT):
        ids = truth.greedy(ids, ANSWER)[:-1]
        want, got = (x[PROMPT - 1:] for x in (truth.logits(ids), ours.logits(model, ids)))
        for w, g in zip(want, got):
            positions += 1
            second, first = np.sort(w)[-2:]
            if w.argmax() != g.argmax():
                widest = max(widest, float(first - second))
                close += first - second < error
                wrong += first - second >= error
    report.figure("positions of greedy text", positions)
    report.figure("other argmax where the truth is undecided", close, f"top two nearer than {error:.4f}; widest {widest:.4f}")
    report.figure("other argmax elsewhere", wrong, "0", wrong == 0)


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--build", default="build")
    args = args.parse_args()
    ours, report = Tokamak(args.build), Report("SmolLM2")
    model = ours.smollm2()
    truth, peers = Truth(model), {flash: Peer(model, CTX, flash) for flash in (False, True)}
    error = divergence(report, ours, model, truth, peers)
    perplexity(report, ours, model, peers[False], CTX)
    argmax(report, ours, model, truth, peers[False], error)
    report.exit()


main()
