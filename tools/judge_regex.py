#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Judge of Split patterns: random patterns of a grammar, and those of real tokenizers, on random strings, by Tokamak and by Hugging
Face's `tokenizers` (whose Oniguruma is the meaning), by each behavior, inverted or not. What is compared is the bytes that are left of
the text and the ends of its pieces. A pattern that Tokamak refuses by name is counted; one that it reads otherwise is a difference.

    pip install tokenizers
    python tools/judge_regex.py [--lib build/lib/libtokamak.so] [--patterns 3000] [--strings 30] [--seed 1]
"""
import argparse
import json
import os
import random
import sys

import tokenizers
from judge_tokenizers import Tokamak, some_string
from tokenizers import pre_tokenizers

REAL = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{"
    r"Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}"
    r"\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
    r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", r"\p{N}", "[0-9][0-9][0-9]", r"\d{1,3}(?=(?:\d{3})*\b)", r"\s+", r" ?[^(\s|[.,!?…。，、।۔،])]+",
    r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
]
PROPERTIES = """L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp C Cc Cf Co Cn LC Letter Number
    Uppercase_Letter Han Latin Greek Cyrillic Hiragana Katakana Hangul Thai Arabic Hebrew Devanagari Garay Kawi Todhri Common Inherited Hani Latn
    Alphabetic Lowercase Uppercase White_Space Emoji Extended_Pictographic Alpha Alnum Digit Punct Space Word Graph Print Cntrl XDigit Blank
    ID_Start Math Dash""".split()
POSIX = "alnum alpha ascii blank cntrl digit graph lower print punct space upper xdigit word".split()
LITERALS = "a b s t A S k K é É ß ſ ſt ss ﬁ Ω ω 漢 1 2 _ - ' \U00010d50 \U00010d70 ᲊ Ᲊ ɤ ǅ İ i ı".split()
ODD = "\u1c89\u1c8a\u0264\ua7cb\ua7da\ua7db\u019b\ua7dc\U00010d50\U00010d70\U00010d40\u0897\U000116d0\U0001e5f1\u2427\U0002ebf0ßſﬁﬆSsKkK²½ٳ٣ः\u0301\u200d\u00ad"


def one_class(rng, depth=0):
    items = []
    for _ in range(rng.randrange(1, 4)):
        kind = rng.randrange(9)
        if kind == 0:
            items.append(rng.choice(["a-z", "A-Z", "0-9", "à-ÿ", "一-龥", "α-ω", "\\x{10D40}-\\x{10D90}", "!-/", "\\x20-\\x7e"]))
        elif kind == 1:
            items.append("\\" + rng.choice("wWdDsShH"))
        elif kind == 2:
            items.append("\\" + rng.choice("pP") + "{" + rng.choice(["", "^"]) + rng.choice(PROPERTIES) + "}")
        elif kind == 3:
            items.append("[:" + rng.choice(["", "^"]) + rng.choice(POSIX) + ":]")
        elif kind == 4 and depth < 2:
            items.append(one_class(rng, depth + 1))
        elif kind == 5:
            items.append(rng.choice(["\\n", "\\t", "\\r", "\\]", "\\\\", "\\-", " ", "'", ".", "\\x{1c89}", "\\e"]))
        else:
            items.append(rng.choice([c for c in LITERALS if len(c) == 1 and c != "-"]))
    body = "".join(items)
    if rng.randrange(5) == 0:
        body += "&&" + (one_class(rng, depth + 1) if depth < 2 else "a-z")
    return "[" + rng.choice(["", "", "^"]) + body + "]"


def atom(rng, depth):
    kind = rng.randrange(16)
    if kind < 4:
        return rng.choice(LITERALS)
    if kind < 7:
        return one_class(rng)
    if kind == 7:
        return "\\" + rng.choice("wWdDsShHbBRNO")
    if kind == 8:
        return "\\" + rng.choice("pP") + "{" + rng.choice(["", "^"]) + rng.choice(PROPERTIES) + "}"
    if kind == 9:
        return rng.choice(["^", "$", "\\A", "\\z", "\\Z", "\\G", ".", "\\b", "\\B", "(?#a comment)", "\\x{e9}", "\\x41"])
    if depth > 2:
        return rng.choice(" ab")
    if kind == 10:
        return "(?i:" + alternatives(rng, depth + 1) + ")"
    if kind == 11:
        return rng.choice(["(?=", "(?!", "(?>", "(?:"]) + alternatives(rng, depth + 1) + ")"
    if kind == 12:
        return rng.choice(["(?<=", "(?<!"]) + rng.choice([one_class(rng), "\\w", "a", " ", "\\p{L}", "s"]) + ")"
    if kind == 13:
        return "(?i)" + atom(rng, depth + 1)
    if kind == 14:
        return "(?i:(?-i:" + atom(rng, depth + 1) + ")" + atom(rng, depth + 1) + ")"
    return "(" + alternatives(rng, depth + 1) + ")"


def sequence(rng, depth):
    return "".join(atom(rng, depth) + rng.choice(["", "", "", "?", "+", "*", "{1,3}", "{2}", "+?", "*?", "++", "?+"]) for _ in range(rng.randrange(1, 4)))


def alternatives(rng, depth=0):
    return "|".join(sequence(rng, depth) for _ in range(rng.choice([1, 1, 2, 3])))


def text(rng):
    kind = rng.randrange(4)
    if kind == 0:
        return some_string(rng, []).decode("utf-8", "replace")[:200]
    if kind == 1:
        return "".join(rng.choice(ODD + "aAsS 1'\n_-") for _ in range(rng.randrange(30)))
    if kind == 2:
        return "".join(rng.choice(LITERALS + [" ", "\n", "."]) for _ in range(rng.randrange(20)))
    return "".join(c for c in (chr(rng.choice([rng.randrange(0x110000), rng.randrange(0x3000), rng.randrange(0x250)])) for _ in range(20))
                   if not "\ud800" <= c <= "\udfff")


BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def document(pattern, behavior, invert):
    """The last byte of a piece is another token than the byte elsewhere."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c + end: i + at for at, end in ((0, ""), (256, "|")) for i, c in enumerate(alphabet)}
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return json.dumps({"version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None, "decoder": None,
                       "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
                       "model": {"type": "BPE", "end_of_word_suffix": "|", "vocab": vocab, "merges": []}})


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--lib", default="build/lib/libtokamak.so")
    p.add_argument("--patterns", type=int, default=3000)
    p.add_argument("--strings", type=int, default=30)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    Tokamak.load(os.path.abspath(args.lib))
    rng = random.Random(args.seed)
    bad = read = refused = gave_up = 0
    why = {}
    for i in range(args.patterns + len(REAL)):
        pattern = REAL[i] if i < len(REAL) else alternatives(rng)
        doc = document(pattern, rng.choice(BEHAVIORS), bool(rng.randrange(2)))
        try:
            hf = tokenizers.Tokenizer.from_str(doc)
        except BaseException:
            continue
        try:
            ours = Tokamak.from_json(doc.encode())
        except RuntimeError as e:
            refused += 1
            why.setdefault(str(e).split(" in ")[0].replace("\n", ": ")[:100], pattern)
            if i < len(REAL):
                bad += 1
                print("refused:", pattern, str(e))
            continue
        read += 1
        for _ in range(args.strings):
            s = text(rng)
            try:
                want = hf.encode(s).ids
            except BaseException:
                continue
            try:
                got = ours.encode(s.encode(), 0)
            except RuntimeError as e:
                gave_up += "gave up" in str(e)
                got = None if "gave up" not in str(e) else want
            if got != want:
                bad += 1
                if bad <= 20:
                    print(f"differs: {pattern!r} {json.loads(doc)['pre_tokenizer']['pretokenizers'][0]}\n  on {ascii(s)}\n  {got}\n  {want}")
                break
    for reason, pattern in sorted(why.items())[:40]:
        print("  refused:", reason, "as in", ascii(pattern)[:80])
    print(f"{read} patterns read, {refused} refused by name, {gave_up} strings given up by the limit of steps, {bad} differences")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
