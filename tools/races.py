#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads what compute-sanitizer's racecheck says, shows it without the false alarms of tools/races.txt, and exits 1 if anything is
left, or if an entry of that file matched nothing and --all is given (all of racecheck's output is here).

    compute-sanitizer --tool racecheck PROGRAM | tools/races.py [--all]

racecheck does not see what orders a bulk copy (cp.async.bulk) behind the reads of its destination's last contents. A report names
two accesses by kernel, file and line (code is compiled with -lineinfo); an entry names a kernel, and for each access a piece of the
text of its line, so that it holds for that one pair however lines move. Fields are separated by ` | `, the last is the reason."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ACCESS = re.compile(r"(Read|Write|Atomic)\w* access at (?:void )?(.*?)\+0x[0-9a-f]+(?: in (\S+):(\d+))?")


def entries():
    for line in (ROOT / "tools" / "races.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            yield tuple(field.strip() for field in line.split(" | "))


def line_of(file, number, seen={}):
    """The text of a line of src/, wherever it was compiled, and of its neighbours: a statement may take several"""
    if not file or "src/" not in file:
        return ""
    path = ROOT / "src" / file.rsplit("src/", 1)[1]
    if path not in seen:
        seen[path] = path.read_text().splitlines() if path.exists() else []
    return " ".join(seen[path][max(0, int(number) - 2):int(number) + 1])


def main():
    known, used, first, left, bad = list(entries()), set(), None, [], 0
    for line in sys.stdin:
        if not line.startswith("========="):
            if re.match(r"\[|ERROR|[0-9]+ rows|skipped", line):
                print(line, end="")
            continue
        access = ACCESS.search(line)
        if "Race reported between" in line and access:
            first = access
        elif first and access and line[9:].lstrip().startswith("and"):
            sides = [(a[1], line_of(a[3], a[4] or 0)) for a in (first, access)]
            for kernel, one, other, reason in known:
                pairs = (sides, sides[::-1])
                if kernel in first[2] and any(all(w.split(" ", 1)[0] == kind and w.split(" ", 1)[1] in text
                                                  for w, (kind, text) in zip((one, other), p)) for p in pairs):
                    used.add((kernel, one, other))
                    break
            else:
                left.append((first[0], access[0]))
        elif "Error" in line or "Warning" in line or "hazard" in line and "SUMMARY" not in line:
            left.append((line.strip(), ""))
        elif "SUMMARY" in line:
            print(line, end="")
    for pair in sorted(set(left)):
        bad += 1
        print(f"race: {pair[0]}\n      {pair[1]}")
    unused = [e for e in known if e[:3] not in used] if "--all" in sys.argv else []
    for e in unused:
        print(f"race: nothing like this any more: {e}")
    print(f"{bad} races beside {len(used)} known false alarms")
    sys.exit(bad + len(unused) > 0)


main()
