#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes src/text/unicode_sets.h: the code points of every property that a pattern of a tokenizer.json may name, as the Oniguruma
inside PyPI's tokenizers answers (6.9.10, Unicode 16.0), asked one code point at a time. The names are those in Debian's library;
blocks ("In...") and break properties are left out: no known tokenizer uses one, and a name without a row is refused.

    pip install tokenizers==0.23.3
    python tools/make_unicode_sets.py > src/text/unicode_sets.h
"""
import re
import sys

import tokenizers
from c_tables import opening, rows
from tokenizers import Regex, pre_tokenizers

LIBRARY = "/usr/lib/x86_64-linux-gnu/libonig.so.5"
# scripts that came after Unicode 14.0, which Debian's library knows
NEWER = "kawi nagmundari garay gurungkhema kiratrai olonal sunuwar todhri tulutigalari nagm gara gukh krai onao sunu todr tutg".split()
# what is written with a backslash or between [: and :], under names that no property has
OTHERS = {"\\w": r"\w", "\\d": r"\d", "\\s": r"\s", "\\h": r"\h"} | {
    f"[:{n}:]": f"[[:{n}:]]" for n in "alnum alpha ascii blank cntrl digit graph lower print punct space upper xdigit word".split()}

assert tokenizers.__version__ == "0.23.3", tokenizers.__version__
# Long runs whose members no property tells apart (ideographs, Hangul, Tangut, private use, nothing yet): their first and last two are
# asked, which makes a property a tenth of a second instead of two. The ends are those of Unicode 16.0's blocks and assignments.
UNIFORM = [(0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xF8FF), (0x17000, 0x187F7), (0x18D09, 0x1AFEF), (0x20000, 0x2A6DF),
           (0x2A6E0, 0x2A6FF), (0x2A700, 0x2B739), (0x2B740, 0x2B81D), (0x2B820, 0x2CEA1), (0x2CEB0, 0x2EBE0), (0x2EBF0, 0x2EE5D),
           (0x2FA1E, 0x2FFFD), (0x30000, 0x3134A), (0x31350, 0x323AF), (0x323B0, 0x3FFFD), *((p << 16, (p << 16) + 0xFFFD) for p in range(4, 14)),
           (0xE1000, 0xEFFFD), (0xF0000, 0xFFFFD), (0x100000, 0x10FFFD)]
INSIDE = {a + 2: b - 2 for a, b in UNIFORM}


def asked():
    c = 0
    while c < 0x110000:
        if c in INSIDE:
            c = INSIDE[c] + 1
        elif c == 0xD800:
            c = 0xE000
        else:
            yield c
            c += 1


ALL = list(asked())
TEXT = "".join(map(chr, ALL))
AFTER = {a: b for a, b in zip(ALL, ALL[1:])}


def ranges(pattern):
    """[first, last] of what the pattern's class matches; None: it cannot be read."""
    try:
        cut = pre_tokenizers.Split(Regex(pattern + "+"), "removed", invert=True)
    except BaseException:
        return None
    out = []
    for _, (a, b) in cut.pre_tokenize_str(TEXT):  # a run in TEXT is one in Unicode: what was not asked is as its neighbours
        first, last = ALL[a], ALL[b - 1]
        if out and AFTER[out[-1][1]] == first:
            out[-1] = (out[-1][0], last)
        else:
            out.append((first, last))
    return out


def number(n):
    out = []
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return out + [n]


def main():
    data = open(LIBRARY, "rb").read()
    names = {m.decode() for m in re.findall(rb"(?<=\0)[a-z][a-z0-9]{0,40}(?=\0)", data)} | set(NEWER)
    names = {n for n in names if not re.match(r"in[a-z]|graphemeclusterbreak|wordbreak|age\d", n) or n in ("inherited", "inscriptionalpahlavi",
                                                                                                      "inscriptionalparthian")}
    sets, blob, offsets = {}, [], {}
    for name, pattern in [(n, f"\\p{{{n}}}") for n in sorted(names)] + sorted(OTHERS.items()):
        r = ranges(pattern)
        if r is None:
            continue
        key = tuple(r)
        if key not in offsets:
            offsets[key] = len(blob)
            blob += number(len(r))
            at = 0
            for a, b in r:
                blob += number(a - at) + number(b - a)
                at = b + 1
        sets[name] = offsets[key]
    out = sys.stdout
    out.write(opening("make_unicode_sets.py"))
    out.write("/* A set: how many ranges, then for each the gap before it and its length less one; 7 bits a byte, low first. */\n")
    out.write("static const struct {\n    const char *name;\n    uint32_t at;\n} set_names[] = {\n")
    for name in sorted(sets):
        out.write('    { "%s", %d },\n' % (name.replace("\\", "\\\\"), sets[name]))
    out.write("};\n")
    out.write(f"static const uint8_t set_data[{len(blob)}] = {{\n")
    out.write("\n".join(rows(blob, 118)) + "\n};\n")


main()
