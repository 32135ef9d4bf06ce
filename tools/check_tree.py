#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tree's own rules, by machine: includes point downward only, files and core stay small, no line refers to what is
not in the repository. Prints each breach; exits 1 if there is one."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Who may include whom (besides itself). kernels (ops, cpu, cuda) never see core; ops and cpu share vec.h.
MAY = {
    "base": set(),
    "cpu": {"base"},
    "ops": {"base", "cpu"},
    "cuda": {"base", "ops"},
    "core": {"base", "ops", "cuda"}, # cuda: only to open it, and by the names of kernels.def
    "comm": {"base", "ops", "core"},
    "text": {"base"},
    "hub": {"base"},
    "model": {"base", "ops", "core", "text"},
    "infer": {"base", "ops", "core", "comm", "text", "model", "cpu"},
    "train": {"base", "ops", "core", "comm", "text", "model", "infer", "cpu"},
    "serve": {"base", "ops", "core", "comm", "text", "model", "infer", "cpu"},
    "cli": {"base", "ops", "core", "comm", "text", "hub", "model", "infer", "train", "serve", "cpu"},
}
LIMITS = {"include/tokamak.h": 400}
FILE_LINES, CORE_LINES, GENERATED = 800, 3000, {"src/text/unicode_data.h", "src/text/unicode_sets.h"}

bad = []
core = 0
for path in sorted(ROOT.glob("**/*")):
    name = path.relative_to(ROOT).as_posix()
    if path.suffix not in {".c", ".h", ".def", ".cu", ".cuh", ".py", ".sh"} or name.startswith(("build", ".")) or "/data/" in name:
        continue
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.count("\n")
    if lines > LIMITS.get(name, FILE_LINES) and name not in GENERATED:
        bad.append(f"{name}: {lines} lines, the limit is {LIMITS.get(name, FILE_LINES)}")
    if path.suffix not in {".py", ".sh"} and "SPDX-License-Identifier: Apache-2.0" not in text[:400]:
        bad.append(f"{name}: no SPDX line")
    if re.search(r"/work/|\bTODO\b|\bFIXME\b|\bXXX\b", text) and name != "tools/check_tree.py":
        bad.append(f"{name}: refers to a place outside the repository, or holds a note to oneself")
    parts = name.split("/")
    if parts[0] != "src":
        continue
    layer = parts[1]
    if layer == "core" and not re.match(r"src/core/kernels.*\.def", name):  # rows come with every backend and type
        core += lines
    for include in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.M):
        to = include.split("/")[0]
        if "/" in include and to != layer and to in MAY and to not in MAY.get(layer, set()):
            bad.append(f"{name}: {layer} may not include {include}")
if core > CORE_LINES:
    bad.append(f"src/core: {core} lines, the limit is {CORE_LINES}")
print("\n".join(bad) if bad else f"tree: fine (core {core} lines)")
sys.exit(bool(bad))
