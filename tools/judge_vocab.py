# SPDX-License-Identifier: Apache-2.0
"""Judge of SmolLM2's vocabulary as its GGUF file has it: `tokamak tokenize --jsonl` gives the ids that llama.cpp gives, on
random and hostile strings, with special tokens as plain text and parsed.
Run: PYTHON tools/judge_vocab.py [--build build] [--count 20000] [--seed 1]"""
import argparse
import json
import os
import random
import tempfile
import unicodedata

from judge_common import Peer, Report, Tokamak
from judge_tokenizers import some_string

SHOWN = 5


def settled(text):
    """text without code points that Python's Unicode (14 or later) does not know: programs take newer letters and digits for
    such only if their tables are as new, so Hugging Face's library and llama.cpp differ on them, and Tokamak follows the former."""
    return "".join("?" if unicodedata.category(c) == "Cn" else c for c in text)


def show(text, ours, theirs):
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    print(f"      {ascii(text)[:200]}\n        from id {at}: tokamak {ours[at:at + 8]}, llama.cpp {theirs[at:at + 8]}")


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--build", default="build")
    args.add_argument("--count", type=int, default=20000)
    args.add_argument("--seed", type=int, default=1)
    args = args.parse_args()
    ours, report = Tokamak(args.build), Report("vocabulary")
    model = ours.smollm2()
    peer, rng = Peer(model, vocab_only=True), random.Random(args.seed)
    special = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>", "<file_sep>", "<jupyter_code>", "<empty_output>"]
    # ids are compared on text: bytes that are no UTF-8 have no common meaning (`tokenize` refuses them)
    strings = [settled(some_string(rng, special).decode("utf-8", "replace")) for _ in range(args.count)]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "strings.jsonl")
        with open(path, "w") as f:
            f.writelines(json.dumps(s) + "\n" for s in strings)
        for parse in (False, True):
            words = ["tokenize", model, "--jsonl", path, "--no-special"] + ["--parse-special"] * parse
            got = [json.loads(line) for line in ours.text(*words).splitlines()]
            want = [peer.ids(s.encode(), special=parse) for s in strings]
            bad = [i for i, s in enumerate(strings) if i >= len(got) or got[i] != want[i]]
            for i in bad[:SHOWN]:
                show(strings[i], got[i] if i < len(got) else [], want[i])
            what = "special tokens parsed" if parse else "special tokens as plain text"
            report.figure(f"strings with other ids, {what}", f"{len(bad)} of {len(strings)}", "0", not bad)
    report.exit()


if __name__ == "__main__":
    main()
