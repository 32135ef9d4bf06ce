#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/tokenizers/split.json: what Hugging Face's `tokenizers` makes of texts by Split with chosen and random patterns, of
every behavior, inverted or not.

    pip install tokenizers==0.23.3
    python tools/make_split_vectors.py

{"document": a tokenizer.json whose Split is to be filled in, "rows": [[pattern, behavior, inverted, text, ids], ...]}. The vocabulary has
two tokens for each byte, one of them for a piece's last."""
import json
import os
import random

import tokenizers
from judge_regex import BEHAVIORS, ODD, REAL, alternatives, document

OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "data", "tokenizers", "split.json")
# Empty matches, between matches, at the ends and where another has just ended; what Oniguruma's releases or a careless
# reader of patterns may differ in.
CHOSEN = {"x*": ["", "a", "xx", "axxbc", "漢xx字", "xaxx"], "": ["abc", "é漢"], "(?=b)": ["abab", "b"], "b|": ["abba"], "a?(?!x)": ["axaa"],
          "\\G.|(?=c)": ["ababc"], "\\b": ["one two", " x "], "$|^": ["a\nb\n"], "\\R+": ["a\n\n\nb\r\n\r"], "(\\R)++x?": ["\n\nx\u2028\x85"],
          "s*(?#c)?": ["assb"], "s{1,3}(?#c)?t*": ["sssstt"], "[\\p{Word}]+": ["ab½ ²x"], "[^\\P{^Word}]": ["½a²"], "\\p{Word}+": ["ab½ ²x"]}
LETTERS = ODD + "aAbsS 1'\n_-漢x"


def row(rng, pattern, text, behavior=None):
    behavior, inverted = behavior or rng.choice(BEHAVIORS), bool(rng.randrange(2))
    return [pattern, behavior, inverted, text, tokenizers.Tokenizer.from_str(document(pattern, behavior, inverted)).encode(text).ids]


def main():
    rng, rows = random.Random(8), []
    for pattern, texts in CHOSEN.items():
        rows += [row(rng, pattern, t, b) for t in texts for b in BEHAVIORS]
    for pattern in REAL:
        rows.append(row(rng, pattern, "I'll say 1234 is\n\n 漢字 ½ naïve"))
    while len(rows) < 400:
        pattern, text = alternatives(rng), "".join(rng.choice(LETTERS) for _ in range(rng.randrange(1, 16)))
        if pattern.count("[^") < 2 and len(pattern) < 60:  # what is refused by name has two
            try:
                rows.append(row(rng, pattern, text))
            except BaseException:  # no pattern
                pass
    lines = ",\n".join(json.dumps(r, ensure_ascii=False, separators=(",", ":")) for r in rows)
    with open(OUT, "w") as f:
        f.write(f'{{"document":{document("", "Removed", False)},\n"rows":[\n{lines}\n]}}\n')


main()
