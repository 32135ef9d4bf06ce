#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Speed of tokenizing on one core, beside Hugging Face's tokenizers and OpenAI's tiktoken, in one run, interleaved.

    pip install tokenizers tiktoken
    python tools/bench_tokenizers.py [--lib build/lib/libtokamak.so] [--seconds 2] [NAME or FOLDER...]

NAME: a folder of $TOKAMAK_SHARED/tokenizers. The text is this machine's /usr/share/common-licenses and package descriptions
(/var/lib/dpkg/status) and the repository's pages and sources, up to 4 MB, in pieces of 64 KB; the best pass of each peer counts, in MB
of CPU time of one thread. tiktoken gets the same ranks and pattern where a tokenizer is byte-level; ids are compared first.
"""
import argparse
import glob
import json
import lzma
import os
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
from judge_tokenizers import Tokamak  # noqa: E402

ROOT = os.path.join(os.path.dirname(__file__), "..")
PIECE, MOST = 65536, 4 << 20


def corpus():
    paths = sorted(glob.glob("/usr/share/common-licenses/*")) + ["/var/lib/dpkg/status"]
    paths += sorted(glob.glob(os.path.join(ROOT, "docs", "*.md"))) + sorted(glob.glob(os.path.join(ROOT, "src", "*", "*.c")))
    text = "".join(open(p, encoding="utf-8", errors="replace").read() for p in paths if os.path.isfile(p))
    data = text.encode()[:MOST]
    return [data[i:i + PIECE].decode("utf-8", "ignore") for i in range(0, len(data), PIECE)]


def letters():
    """GPT-2's alphabet: letter -> byte."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    rest = [b for b in range(256) if b not in keep]
    return {chr(b): b for b in keep} | {chr(256 + i): b for i, b in enumerate(rest)}


def for_tiktoken(j):
    import tiktoken
    pre = j.get("pre_tokenizer") or {}
    stages = pre.get("pretokenizers", [pre])
    if stages[-1].get("type") != "ByteLevel":
        return None
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    for s in stages:
        if s.get("type") == "Split":
            pattern = s["pattern"]["Regex"]
    table = letters()
    ranks = {bytes(table[c] for c in piece): i for piece, i in j["model"]["vocab"].items() if all(c in table for c in piece)}
    return tiktoken.Encoding("x", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


def main():
    p = argparse.ArgumentParser()
    p.add_argument("names", nargs="*", default=["gpt2", "llama3_2", "qwen2_5", "mistral_7b", "gemma2"])
    p.add_argument("--lib", default="build/lib/libtokamak.so")
    p.add_argument("--seconds", type=float, default=2)
    p.add_argument("--shared", default=os.environ.get("TOKAMAK_SHARED", "../shared"))
    args = p.parse_args()
    import tokenizers
    Tokamak.load(os.path.abspath(args.lib))
    texts = corpus()
    size = sum(len(x.encode()) for x in texts)
    print(f"{size / 1e6:.1f} MB of text in {len(texts)} pieces")
    for name in args.names:
        path = os.path.join(name if os.path.isdir(name) else os.path.join(args.shared, "tokenizers", name), "tokenizer.json")
        text = open(path, "rb").read() if os.path.exists(path) else lzma.open(path + ".xz").read()
        ours, hf, tik = Tokamak.from_json(text), tokenizers.Tokenizer.from_str(text.decode()), for_tiktoken(json.loads(text))
        data = [x.encode() for x in texts]
        for x, b in zip(texts[:8], data[:8]):
            assert ours.encode(b, 2) == hf.encode(x, add_special_tokens=False).ids, name
        runs = {"tokamak": lambda i: ours.count(data[i]), "tokenizers": lambda i: hf.encode(texts[i], add_special_tokens=False)}
        if tik:
            runs["tiktoken"] = lambda i: tik.encode_ordinary(texts[i])
        best, end = dict.fromkeys(runs, 1e9), time.time() + args.seconds * len(runs)
        while time.time() < end:
            for who, run in runs.items():
                few = range(len(texts)) if who == "tokamak" else range(0, len(texts), 8)
                start = time.process_time()
                for i in few:
                    run(i)
                best[who] = min(best[who], (time.process_time() - start) / sum(len(data[i]) for i in few))
        print(name + ": " + ", ".join(f"{who} {1e-6 / s:.1f} MB/s" for who, s in best.items()), flush=True)


if __name__ == "__main__":
    main()
