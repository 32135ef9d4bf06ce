#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads what compute-sanitizer's racecheck says and exits 1 if it found anything but the false alarms of tools/races.txt.

    compute-sanitizer --tool racecheck PROGRAM | tools/races.py

A report names pairs of accesses by function, which are the inlined ones of a build with line numbers (cmake -DTOKAMAK_LINES=ON). An entry is
such a pair in any order, each as the beginning of `Write tk::name`, and the reason; fields are separated by ` | `."""
import pathlib
import re
import sys

KNOWN = pathlib.Path(__file__).with_name("races.txt")
ACCESS = re.compile(r"(Read|Write|Atomic)\w* access at (?:void )?(.*?)\+0x[0-9a-f]+")


def main():
    known = [line.split(" | ") for line in KNOWN.read_text().splitlines() if " | " in line and line[0] != "#"]
    first, left, used = None, set(), set()
    for line in sys.stdin:
        access = ACCESS.search(line)
        if "Race reported between" in line and access:
            first = access
        elif first and access:
            names = [f"{a[1]} {a[2]}" for a in (first, access)]
            for one, other, _ in known:
                if any(a.startswith(one) and b.startswith(other) for a, b in (names, names[::-1])):
                    used.add((one, other))
                    break
            else:
                left.add(tuple(re.sub(r"=+|\+0x[0-9a-f]+|\[\d+ hazards\]|\(.*\)(?= in |$)", "", a.string).strip() for a in (first, access)))
        elif line.startswith("=========") and re.search(r"Error|Warning|hazard(?!s displayed)", line):
            left.add((line[9:].strip(), ""))
        elif not line.startswith("=========") or "SUMMARY" in line:
            print(line, end="")
    for one, other in sorted(left):
        print(f"race: {one}\n      {other}")
    print(f"races: {len(left)}, and {len(used)} known false alarms")
    sys.exit(bool(left))


main()
