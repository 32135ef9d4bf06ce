#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes src/text/unicode_data.h: the general category of every code point, Unicode 16.0.

Why 16: the Oniguruma inside PyPI's tokenizers 0.23 answers \\p{L}, \\p{N}, \\p{M}, \\p{P} and \\p{S} as Unicode 16.0
for every code point (compared one by one), while Debian's Oniguruma knows 14.0. Rust's char::is_numeric in the same wheel
(the Digits pre-tokenizer) follows 17.0; the difference is emitted as a short list of ranges.

    pip install unicodedata2==16.0.0
    python tools/make_unicode.py > src/text/unicode_data.h
"""
import sys

import unicodedata2 as ud

assert ud.unidata_version == "16.0.0", ud.unidata_version
CATS = "Cn Cc Cf Co Cs Ll Lm Lo Lt Lu Mc Me Mn Nd Nl No Pc Pd Pe Pf Pi Po Ps Sc Sk Sm So Zl Zp Zs".split()
BLOCK = 128
# numbers that Unicode 17.0 added: Tolong Siki digits, Chinese small numerals
NUMBERS_17 = [(0x11DE0, 0x11DE9), (0x16FF4, 0x16FF6)]

cats = [CATS.index(ud.category(chr(c))) for c in range(0x110000)]
index, blocks = [], {}
for at in range(0, 0x110000, BLOCK):
    index.append(blocks.setdefault(tuple(cats[at:at + BLOCK]), len(blocks)))
assert len(blocks) < 65536


def rows(values):
    line = "   "
    for v in values:
        if len(line) + len(str(v)) + 2 > 110:
            yield line
            line = "   "
        line += f" {v},"
    yield line


out = sys.stdout
out.write("/* SPDX-License-Identifier: Apache-2.0 */\n")
out.write("/* Made by tools/make_unicode.py, which says where from and why. Do not edit. */\n")
out.write('#define TK_UNICODE_VERSION "16.0.0"\n')
out.write("enum {\n" + "\n".join(rows([f"GC_{c}" for c in CATS] + ["GC_COUNT"])).replace("GC_COUNT,", "GC_COUNT") + "\n};\n")
out.write("static const char gc_names[GC_COUNT][3] = {\n" + "\n".join(rows([f'"{c}"' for c in CATS])) + "\n};\n")
out.write(f"enum {{ GC_BLOCK = {BLOCK} }};\n")
out.write(f"static const uint16_t gc_index[{len(index)}] = {{\n" + "\n".join(rows(index)) + "\n};\n")
out.write(f"static const uint8_t gc_block[{len(blocks)}][GC_BLOCK] = {{\n")
for b in blocks:
    out.write("    {\n" + "\n".join(rows(b)) + "\n    },\n")
out.write("};\n")
out.write(f"static const uint32_t numbers_17[{len(NUMBERS_17)}][2] = {{\n")
out.write("\n".join(rows([f"{{ 0x{a:X}, 0x{b:X} }}" for a, b in NUMBERS_17])) + "\n};\n")
