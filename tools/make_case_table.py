#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes src/text/jinja_case.inc: what Python's str knows of characters and utf8proc does not. Case mappings to several
characters (Unicode's SpecialCasing), and the characters that are lower or upper case, digits or numbers without being
in such a general category. Run: python3 tools/make_case_table.py > src/text/jinja_case.inc"""
import sys
import unicodedata

CHARS = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
category = unicodedata.category
SECTIONS = [
    ("LOWER", lambda c: c.islower() and category(c) != "Ll"),
    ("UPPER", lambda c: c.isupper() and category(c) != "Lu"),
    ("DIGIT", lambda c: c.isdigit() and category(c) != "Nd"),
    ("NUMERIC", lambda c: c.isnumeric() and category(c) not in ("Nd", "Nl", "No")),
]


def utf8(s):
    return '"' + "".join("\\x%02x" % b for b in s.encode()) + '"'


print("/* SPDX-License-Identifier: Apache-2.0 */")
print("/* By tools/make_case_table.py, each part in order of code points. CASES: {code point, upper case, title case}, UTF-8;")
print(" * the others: {first, last} of a range. */")
print("#ifdef CASES")
for c in CHARS:
    if len(c.upper()) > 1 or len(c.title()) > 1:
        print("{ 0x%04x, %s, %s }," % (ord(c), utf8(c.upper()), utf8(c.title())))
print("#endif")
for name, has in SECTIONS:
    print("#ifdef " + name)
    first = last = None
    for n in [ord(c) for c in CHARS if has(c)] + [None]:
        if last is not None and n != last + 1:
            print("{ 0x%04x, 0x%04x }," % (first, last))
            first = n
        first, last = n if first is None else first, n
    print("#endif")
