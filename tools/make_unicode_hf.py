#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes src/text/unicode_hf.h: what the stages of Hugging Face's library that are not patterns know of each code point.

Its normalizers and pre-tokenizers draw on crates with Unicode tables of five different versions, so the library itself is
asked, code point by code point: which ones BertNormalizer drops as controls or accents, which StripAccents drops, which
Punctuation cuts at, what Lowercase makes of each, and which script UnicodeScripts sees. Grapheme clusters (which the
Precompiled normalizer walks by) follow Unicode 17's properties, taken from the `regex` package, and are then compared with
the library's on pairs and triples of all kinds of characters; the script stops if one differs.

    pip install tokenizers==0.23.3 regex==2026.1.15
    python tools/make_unicode_hf.py > src/text/unicode_hf.h
"""
import base64
import itertools
import struct
import sys

import regex
from c_tables import opening, rows
from tokenizers import normalizers as N
from tokenizers import pre_tokenizers as P

ALL = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
GCB = "Other CR LF Control Extend ZWJ Regional_Indicator Prepend SpacingMark L V T LV LVT".split()
INCB = "None Consonant Linker Extend".split()
PUNCTUATION, OTHER, ACCENT, MARK = 1, 2, 4, 8


def members(pattern):
    p = regex.compile(pattern)
    return {c for c in ALL if p.match(chr(c))}


def removed(normalizer):
    return {c for c in ALL if not normalizer.normalize_str(chr(c))}


def scripts():
    """0: fits everything. Code points of one number are never cut apart."""
    p, of, examples, last = P.UnicodeScripts(), {}, [], 0
    together = lambda a, b: len(p.pre_tokenize_str(a + b)) == 1
    for c in ALL:
        if not p.pre_tokenize_str(chr(c)):
            of[c] = 0
            continue
        if not (last and together(examples[last - 1], chr(c))):
            last = next((i + 1 for i, e in enumerate(examples) if together(e, chr(c))), 0)
            if not last:
                examples.append(chr(c))
                last = len(examples)
        of[c] = last
    return of


def charsmap(letter, to):
    """A Darts trie with the one key `letter`, in SentencePiece's form."""
    units = [0] * 512
    offset = 256
    units[0] = (offset << 10)
    at = offset ^ ord(letter)
    leaf = 0x100 ^ 0x1FF
    units[at] = ord(letter) | 1 << 8 | ((at ^ leaf) << 10)
    units[leaf] = 1 << 31
    blob = struct.pack("<512I", *units)
    return base64.b64encode(struct.pack("<I", len(blob)) + blob + to.encode() + b"\0").decode()


def check_graphemes(gcb, incb, pict):
    """The library replaces a cluster of at most 5 bytes that starts with a key as a whole; so does \\X here."""
    z = N.Precompiled(base64.b64decode(charsmap("a", "X")))
    clusters = regex.compile(r"\X")

    def ours(s):
        out = ""
        for g in clusters.findall(s):
            out += "X" if len(g.encode()) < 6 and g[0] == "a" else g.replace("a", "X")
        return out

    n = 0
    for c in ALL:
        s = "a" + chr(c)
        assert z.normalize_str(s) == ours(s), hex(c)
    few = {}
    for c in ALL:
        k = gcb[c], incb[c], c in pict, len(chr(c).encode())
        few.setdefault(k, []).append(chr(c))
    some = [v[0] for v in few.values()] + [v[-1] for v in few.values()] + ["a"]
    for k in (2, 3):
        for s in itertools.product(some, repeat=k):
            s = "".join(s)
            n += 1
            assert z.normalize_str(s) == ours(s), (ascii(s), ascii(z.normalize_str(s)), ascii(ours(s)))
    print(f"{n} strings have equal clusters", file=sys.stderr)


def main():
    bert = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    cut = P.Punctuation("isolated")
    flags = dict.fromkeys(ALL, 0)
    for flag, chars in ((PUNCTUATION, {c for c in ALL if len(cut.pre_tokenize_str("0" + chr(c) + "0")) == 3}),
                        (OTHER, removed(N.BertNormalizer(**{**bert, "clean_text": True}))),
                        (ACCENT, removed(N.BertNormalizer(**{**bert, "strip_accents": True}))),
                        (MARK, removed(N.StripAccents()))):
        for c in chars:
            flags[c] |= flag
    gcb, incb = dict.fromkeys(ALL, 0), dict.fromkeys(ALL, 0)
    for i, name in enumerate(GCB[1:], 1):
        gcb.update(dict.fromkeys(members(r"\p{GCB=%s}" % name), i))
    for i, name in enumerate(INCB[1:], 1):
        incb.update(dict.fromkeys(members(r"\p{InCB=%s}" % name), i))
    pict = members(r"\p{Extended_Pictographic}")
    check_graphemes(gcb, incb, pict)
    script = scripts()
    assert max(script.values()) < 256
    kinds, runs, last = {}, [], None
    for c in ALL:
        k = flags[c] | gcb[c] << 4 | incb[c] << 8 | (c in pict) << 10 | script[c] << 11
        if k != last:
            runs.append(c << 11 | kinds.setdefault(k, len(kinds)))
            last = k
    assert len(kinds) < 1 << 11
    low = N.Lowercase()
    pairs = [(c, low.normalize_str(chr(c))) for c in ALL[128:]]
    pairs = [(c, s) for c, s in pairs if s != chr(c)]
    assert [c for c, s in pairs if len(s) > 1] == [0x130] and dict(pairs)[0x130] == "i\u0307"
    out = sys.stdout
    out.write(opening("make_unicode_hf.py"))
    out.write("enum {\n" + "\n".join(rows([f"GCB_{n.upper()}" for n in GCB])) + "\n};\n")
    out.write("enum {\n" + "\n".join(rows([f"INCB_{n.upper()}" for n in INCB])) + "\n};\n")
    out.write("/* bits 0-3: flags, 4-7: GCB, 8-9: InCB, 10: pictographic, 11 and up: script */\n")
    out.write(f"static const uint32_t hf_kind[{len(kinds)}] = {{\n" + "\n".join(rows(kinds)) + "\n};\n")
    out.write("/* first code point << 11 | index into hf_kind */\n")
    out.write(f"static const uint32_t hf_run[{len(runs)}] = {{\n" + "\n".join(rows(map(hex, runs))) + "\n};\n")
    out.write("/* {code point, its lower case}; U+0130 stands for two and is not here */\n")
    out.write(f"static const uint32_t hf_lower[{len(pairs) - 1}][2] = {{\n")
    out.write("\n".join(rows([f"{{ {c:#x}, {ord(s):#x} }}" for c, s in pairs if c != 0x130])) + "\n};\n")


main()
