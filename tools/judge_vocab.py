#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Judge of GGUF vocabularies: `tokamak tokenize --jsonl` gives the ids that llama.cpp gives, on random and hostile strings, with
special tokens as plain text and parsed. On SmolLM2's file, on $TOKAMAK_SHARED/gguf_vocab, and on small files for every
pre-tokenizer name and kind of model (tools/make_vocab_vectors.py).

    pip install llama-cpp-python==0.3.36 gguf
    python tools/judge_vocab.py [--build build] [--count 20000] [--small 2000] [--seed 1] [NAME or FILE...]

NAME: smollm2, shared, small (default: all three)."""
import argparse
import glob
import json
import os
import random
import tempfile

import make_vocab_vectors as vectors
from judge_common import Report, Tokamak
from judge_tokenizers import some_string

SHOWN = 5
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>", "<file_sep>", "<s>", "</s>", "<unk>", "<think>", "<tool> ", "abc",
           "cab ab", "ab ab", "né", "<|channel|>", "<mask>", "[MASK]", "[UNK]", "<0x0A>", ">>TITLE<<", "<sentinel:7>", "IMGIMGABZ"]
LONG = 3000  # bytes: std::regex recurses by the character, and longer runs overflow llama.cpp's stack


def show(text, ours, theirs):
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    print(f"      {ascii(text)[:200]}\n        from id {at}: tokamak {ours[at:at + 8]}, llama.cpp {theirs[at:at + 8]}")


def strings(rng, count):
    """Ids are compared on text: bytes that are no UTF-8 have no common meaning (`tokenize` refuses them)."""
    out = []
    while len(out) < count:
        s = some_string(rng, SPECIAL + rng.sample(vectors.STRINGS, 4)).decode("utf-8", "replace")
        if rng.random() < 0.2:  # characters of one block, where scripts and marks meet
            base = rng.choice([0, 0x80, 0x300, 0x370, 0x5d0, 0x900, 0xe00, 0x1000, 0x1780, 0x2000, 0x3000, 0x4e00, 0xac00, 0xff00, 0x1f300])
            s += "".join(chr(base + rng.randrange(0x100)) for _ in range(rng.randrange(30)))
        out.append(s[:LONG])
    return out


def judge(ours, report, name, path, texts):
    peer = vectors.Peer(path)
    with tempfile.TemporaryDirectory() as folder:
        jsonl = os.path.join(folder, "strings.jsonl")
        with open(jsonl, "w") as f:
            f.writelines(json.dumps(s) + "\n" for s in texts)
        bad = 0
        for parse in (False, True):
            words = ["tokenize", path, "--jsonl", jsonl] + (["--parse-special"] if parse else ["--no-special"])
            got = [json.loads(line) for line in ours.text(*words).splitlines()]
            for i, s in enumerate(texts):
                want = peer.ids(s.encode(), parse, parse)
                if i >= len(got) or got[i] != want:
                    bad += 1
                    if bad <= SHOWN:
                        show(s, got[i] if i < len(got) else [], want)
    peer.close()
    report.figure(f"strings with other ids, {name}", f"{bad} of {2 * len(texts)}", "0", not bad)


def judge_small(ours, report, count, seed):
    with open(os.path.join(vectors.OUT, "vocabs.json")) as f:
        vocabs = json.load(f)
    with tempfile.TemporaryDirectory() as folder:
        for name, model, vocab, pre, keys in vectors.variants(vocabs):
            path = os.path.join(folder, "v.gguf")
            vectors.write_gguf(path, model, vocabs[vocab], pre, **keys)
            rng = random.Random(f"{seed} {name} {pre}")
            judge(ours, report, " ".join(filter(None, [model, pre, "" if name is None or name == pre else f"({name})"])), path, strings(rng, count))


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("names", nargs="*", default=["smollm2", "shared", "small"])
    args.add_argument("--build", default="build")
    args.add_argument("--count", type=int, default=20000)
    args.add_argument("--small", type=int, default=2000)
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--shared", default=os.environ.get("TOKAMAK_SHARED", "../shared"))
    args = args.parse_args()
    ours, report = Tokamak(args.build), Report("vocabulary")
    for name in args.names:
        if name == "small":
            judge_small(ours, report, args.small, args.seed)
            continue
        paths = [ours.smollm2()] if name == "smollm2" else [name]
        if name == "shared":
            paths = sorted(glob.glob(os.path.join(args.shared, "gguf_vocab", "*.gguf")))
        for path in paths:
            judge(ours, report, os.path.basename(path), path, strings(random.Random(args.seed), args.count))
    report.exit()


if __name__ == "__main__":
    main()
