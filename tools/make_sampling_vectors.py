#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden vectors for docs/SAMPLING.md: a plain double-precision model of the standard, written from the page
and not from sample.c, and held against Hugging Face's logits processors where those exist.

    python3 -m venv /tmp/v && /tmp/v/bin/pip install numpy torch transformers
    /tmp/v/bin/python tools/make_sampling_vectors.py          writes tests/data/sampling/golden.json
"""
import json
import pathlib

import numpy as np

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/data/sampling/golden.json"
NEUTRAL = dict(temp=1.0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0, presence_penalty=0.0,
               frequency_penalty=0.0, seed=0, bias=[])
MARGIN = 1e-5  # draws and cuts nearer to a border than this are not judged: sample.c computes in float32


def philox(key, counters):
    """Philox4x32-10 over arrays of four-word counters."""
    mask = np.uint64(0xFFFFFFFF)
    c = [np.array(x, dtype=np.uint64) for x in np.broadcast_arrays(*counters)]
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p, q = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(q >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), q & mask,
             (p >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), p & mask]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def uniform(seed, positions):
    p = np.asarray(positions, dtype=np.uint64)
    w = philox(seed, [p & np.uint64(0xFFFFFFFF), p >> np.uint64(32), np.zeros_like(p),
                      np.full_like(p, 0x53414D50)])
    return w[0].astype(np.float64) * 2.0**-32 + w[1].astype(np.float64) * 2.0**-64


def processed(logits, prompt, answer, s):
    l = np.array(logits, dtype=np.float64)
    for token, value in s["bias"]:
        l[token] += np.float32(value)
    for t in set(prompt) | set(answer):
        p = float(np.float32(s["repeat_penalty"]))
        l[t] = l[t] * p if l[t] < 0 else l[t] / p
    for t in set(answer):
        l[t] -= float(np.float32(s["presence_penalty"]))
        l[t] -= float(np.float32(s["frequency_penalty"])) * answer.count(t)
    return l


def candidates(l, s):
    """[(id, probability)] in the order of the draw, and the smallest distance of a cut from a border."""
    order = sorted(range(len(l)), key=lambda i: (-l[i], i))
    if s["temp"] == 0:
        return [(order[0], 1.0)], 1.0
    order = [i for i in order if l[i] > -np.inf]
    if s["top_k"]:
        order = order[:s["top_k"]]
    z = l[order] / float(np.float32(s["temp"]))
    p = np.exp(z - z.max())
    p /= p.sum()
    margin, keep = 1.0, len(order)
    top_p, min_p = float(np.float32(s["top_p"])), float(np.float32(s["min_p"]))
    if top_p < 1:
        sums = np.cumsum(p)
        keep = int(np.argmax(sums >= top_p)) + 1
        margin = min(margin, np.abs(sums - top_p).min()) if top_p > 0 else 1.0
    if min_p > 0:
        keep = min(keep, int((p >= min_p * p[0]).sum()))
        near = np.abs(p / p[0] - min_p)
        margin = min(margin, near[1:].min() if len(p) > 1 else 1.0)
    p = p[:keep] / p[:keep].sum()
    return list(zip(order[:keep], p)), margin


def draws(chosen, seed, first, wanted):
    """(position, token) pairs that meet every candidate, where the search finds it, and its neighbours."""
    positions = np.arange(first, first + 60000, dtype=np.uint64)
    u = uniform(seed, positions)
    sums = np.cumsum([p for _, p in chosen])
    sums[-1] = 1.0
    index = np.searchsorted(sums, u, side="right")
    borders = np.concatenate([[0.0], sums])
    clear = np.minimum(np.abs(u - borders[index]), np.abs(borders[index + 1] - u)) > MARGIN
    clear |= (index == 0) & (borders[1] - u > MARGIN)
    picked = [int(k) for k in np.flatnonzero(clear)[:wanted]]
    for i in range(len(chosen)):
        hits = np.flatnonzero(clear & (index == i))
        picked += [int(hits[0])] if len(hits) else []
    return [[int(positions[k]), int(chosen[index[k]][0])] for k in sorted(set(picked))]


def check_against_hf(logits, prompt, answer, s, chosen):
    import torch
    from transformers.generation import logits_process as hf
    if s["presence_penalty"] or s["frequency_penalty"] or s["bias"] or s["temp"] == 0:
        return False  # HF has none of these (its sequence bias is another thing)
    steps = [hf.TemperatureLogitsWarper(float(np.float32(s["temp"])))]
    if s["repeat_penalty"] != 1:
        steps.insert(0, hf.RepetitionPenaltyLogitsProcessor(float(np.float32(s["repeat_penalty"]))))
    if s["top_k"]:
        steps.append(hf.TopKLogitsWarper(s["top_k"]))
    if s["top_p"] < 1:
        steps.append(hf.TopPLogitsWarper(float(np.float32(s["top_p"]))))
    if s["min_p"] > 0:
        steps.append(hf.MinPLogitsWarper(float(np.float32(s["min_p"]))))
    scores = torch.tensor([logits], dtype=torch.float64)
    ids = torch.tensor([prompt + answer], dtype=torch.long)
    for step in steps:
        scores = step(ids, scores)
    theirs = torch.softmax(scores, -1)[0].numpy()
    mine = np.zeros(len(logits))
    for i, p in chosen:
        mine[i] = p
    assert set(np.flatnonzero(theirs)) == {i for i, _ in chosen}, s
    assert np.abs(theirs - mine).max() < 1e-9, s
    return True


def main():
    assert [int(w) for w in philox(0, [0, 0, 0, 0])] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    rng = np.random.default_rng(20260101)
    settings = {
        "neutral": {}, "cold": dict(temp=0.2), "hot": dict(temp=3.0), "greedy": dict(temp=0.0, top_k=5, top_p=0.5),
        "top_k 1": dict(top_k=1), "top_k 5": dict(top_k=5), "top_k over the vocabulary": dict(top_k=1000),
        "top_p": dict(top_p=0.6), "top_p 0 keeps one": dict(top_p=0.0), "min_p": dict(min_p=0.1),
        "min_p 1": dict(min_p=1.0), "top_p, min_p": dict(top_p=0.9, min_p=0.05),
        "top_k, top_p": dict(top_k=8, top_p=0.7, temp=0.8), "top_k, top_p, min_p": dict(top_k=20, top_p=0.95, min_p=0.02),
        "defaults": dict(temp=0.8, top_k=40, top_p=0.95), "repeat": dict(repeat_penalty=1.3),
        "repeat rewarded": dict(repeat_penalty=0.7, top_k=10), "repeat, greedy": dict(repeat_penalty=1.8, temp=0.0),
        "presence": dict(presence_penalty=1.5, top_k=12), "frequency": dict(frequency_penalty=0.7, top_p=0.8),
        "frequency rewarded": dict(frequency_penalty=-0.5, min_p=0.05),
        "bias": dict(bias=[[3, 4.0], [1, -100.0], [3, 0.5]], top_k=6),
        "all": dict(temp=0.9, top_k=30, top_p=0.9, min_p=0.01, repeat_penalty=1.1, presence_penalty=0.3,
                    frequency_penalty=0.2, bias=[[2, 1.5], [5, -2.0]], seed=2**63 + 12345),
    }
    cases, compared = [], 0
    for name, given in settings.items():
        for vocab in (12, 300):
            s = {**NEUTRAL, "seed": int(rng.integers(2**32)), **given}
            while True:
                logits = [float(x) for x in np.float32(rng.normal(0, 2.5, vocab))]
                prompt = [int(x) for x in rng.integers(0, vocab, 6)]
                answer = [int(x) for x in rng.integers(0, min(vocab, 8), 7)]
                chosen, margin = candidates(processed(logits, prompt, answer, s), s)
                if margin > 1e-4 or s["temp"] == 0:
                    break
            compared += check_against_hf(logits, prompt, answer, s, chosen)
            first = len(prompt) + len(answer) if vocab == 12 else 2**32 - 100
            cases.append(dict(name=f"{name}, {vocab}", **{**s, "seed": str(s["seed"])}, logits=[float(f"{x:.9g}") for x in logits], prompt=prompt,
                              answer=answer, kept=len(chosen), draws=draws(chosen, s["seed"], first, 40)))
    # borders that random numbers do not meet
    ties = dict(NEUTRAL, seed=7)
    for name, s, logits in (
            ("ties go by id", {**ties, "top_k": 3}, [1.0, 2.0, 2.0, 2.0, 2.0, 0.0]),
            ("equal, greedy", {**ties, "temp": 0.0}, [1.0, 2.0, 2.0, 2.0]),
            ("uniform", {**ties, "top_p": 0.45}, [0.5] * 10),
            ("one token", ties, [-3.0]),
            ("far apart", ties, [0.0, 80.0, -300.0, 3e38, -3e38])):
        chosen, _ = candidates(np.array(logits), s)
        chosen = [(i, p) for i, p in chosen if p > 0]
        cases.append(dict(name=name, **{**s, "seed": str(s["seed"])}, logits=logits, prompt=[], answer=[], kept=len(chosen),
                          draws=draws(chosen, s["seed"], 0, 40)))
    text = "[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n"
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(text)
    print(f"{len(cases)} cases, {sum(len(c['draws']) for c in cases)} draws, {compared} held against HF, {len(text)} bytes")


if __name__ == "__main__":
    main()
