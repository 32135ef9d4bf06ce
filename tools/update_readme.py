#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Puts what `tokamak doctor --supported` says between README.md's marks. With --check it only tells whether that
would change anything (exit 1). Run: make docs, or python3 tools/update_readme.py [--check] [build/bin/tokamak]"""
import pathlib
import subprocess
import sys

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- supported: begin (make docs) -->\n", "<!-- supported: end -->\n"

words = [w for w in sys.argv[1:] if w != "--check"]
table = subprocess.run([words[0] if words else "build/bin/tokamak", "doctor", "--supported"], check=True, capture_output=True, text=True).stdout
text = README.read_text(encoding="utf-8")
if text.count(BEGIN) != 1 or text.count(END) != 1:
    sys.exit(f"README.md has not the marks {BEGIN.strip()} and {END.strip()} once each")
head, rest = text.split(BEGIN)
new = head + BEGIN + table + "\n" + END + rest.split(END)[1]
if new == text:
    print("README's tables are those of the code")
elif "--check" in sys.argv:
    sys.exit("README's tables of what is supported are not those of the code: run `make docs`")
else:
    README.write_text(new, encoding="utf-8")
    print("README's tables are new")
