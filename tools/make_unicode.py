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
from c_tables import opening, rows

assert ud.unidata_version == "16.0.0", ud.unidata_version
CATS = "Cn Cc Cf Co Cs Ll Lm Lo Lt Lu Mc Me Mn Nd Nl No Pc Pd Pe Pf Pi Po Ps Sc Sk Sm So Zl Zp Zs".split()
BLOCK = 128
# code points that Unicode 16.0 assigned: llama.cpp's tables are 15.1 (compared one by one with libllama.so of 0.3.36)
ADDED_16 = [
    (0x897, 0x897), (0x1B4E, 0x1B4F), (0x1B7F, 0x1B7F), (0x1C89, 0x1C8A), (0x2427, 0x2429), (0x31E4, 0x31E5), (0xA7CB, 0xA7CD),
    (0xA7DA, 0xA7DC), (0x105C0, 0x105F3), (0x10D40, 0x10D65), (0x10D69, 0x10D85), (0x10D8E, 0x10D8F), (0x10EC2, 0x10EC4),
    (0x10EFC, 0x10EFC), (0x11380, 0x11389), (0x1138B, 0x1138B), (0x1138E, 0x1138E), (0x11390, 0x113B5), (0x113B7, 0x113C0),
    (0x113C2, 0x113C2), (0x113C5, 0x113C5), (0x113C7, 0x113CA), (0x113CC, 0x113D5), (0x113D7, 0x113D8), (0x113E1, 0x113E2),
    (0x116D0, 0x116E3), (0x11BC0, 0x11BE1), (0x11BF0, 0x11BF9), (0x11F5A, 0x11F5A), (0x13460, 0x143FA), (0x16100, 0x16139),
    (0x16D40, 0x16D79), (0x18CFF, 0x18CFF), (0x1CC00, 0x1CCF9), (0x1CD00, 0x1CEB3), (0x1E5D0, 0x1E5FA), (0x1E5FF, 0x1E5FF),
    (0x1F8B2, 0x1F8BB), (0x1F8C0, 0x1F8C1), (0x1FA89, 0x1FA89), (0x1FA8F, 0x1FA8F), (0x1FABE, 0x1FABE), (0x1FAC6, 0x1FAC6),
    (0x1FADC, 0x1FADC), (0x1FADF, 0x1FADF), (0x1FAE9, 0x1FAE9), (0x1FBCB, 0x1FBEF)]
# numbers that Unicode 17.0 added: Tolong Siki digits, Chinese small numerals
NUMBERS_17 = [(0x11DE0, 0x11DE9), (0x16FF4, 0x16FF6)]

cats = [CATS.index(ud.category(chr(c))) for c in range(0x110000)]
index, blocks = [], {}
for at in range(0, 0x110000, BLOCK):
    index.append(blocks.setdefault(tuple(cats[at:at + BLOCK]), len(blocks)))
assert len(blocks) < 65536


out = sys.stdout
out.write(opening("make_unicode.py"))
out.write('#define TK_UNICODE_VERSION "16.0.0"\n')
out.write("enum {\n" + "\n".join(rows([f"GC_{c}" for c in CATS] + ["GC_COUNT"])).replace("GC_COUNT,", "GC_COUNT") + "\n};\n")
out.write("static const char gc_names[GC_COUNT][3] = {\n" + "\n".join(rows([f'"{c}"' for c in CATS])) + "\n};\n")
out.write(f"enum {{ GC_BLOCK = {BLOCK} }};\n")
out.write(f"static const uint16_t gc_index[{len(index)}] = {{\n" + "\n".join(rows(index)) + "\n};\n")
out.write(f"static const uint8_t gc_block[{len(blocks)}][GC_BLOCK] = {{\n")
for b in blocks:
    out.write("    {\n" + "\n".join(rows(b)) + "\n    },\n")
out.write("};\n")
for name, ranges in (("numbers_17", NUMBERS_17), ("added_16", ADDED_16)):
    out.write(f"static const uint32_t {name}[{len(ranges)}][2] = {{\n")
    out.write("\n".join(rows([f"{{ 0x{a:X}, 0x{b:X} }}" for a, b in ranges])) + "\n};\n")
