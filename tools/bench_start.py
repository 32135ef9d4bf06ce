#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long `tokamak run` takes from its start to its first token, warm: the whole process with one token of answer, so
process start, file, tokenizer, packing, prompt and one step are all in it. The least of several runs is what the
program needs (the rest is the machine's other work). Exits 1 above the limit.
Run: python3 tools/bench_start.py [--model smollm2] [--runs 9] [--limit 0.25] [--build build]"""
import argparse
import os
import re
import subprocess
import sys
import time

p = argparse.ArgumentParser()
p.add_argument("--model", default="smollm2")
p.add_argument("--runs", type=int, default=9)
p.add_argument("--limit", type=float, default=0.25)
p.add_argument("--build", default="build")
args = p.parse_args()
command = [os.path.join(args.build, "bin", "tokamak"), "run", args.model, "-p", "Why is the sky blue?", "-n", "1", "--temp", "0"]
walls, said = [], []
for run in range(args.runs + 1):  # the first warms the page cache
    began = time.perf_counter()
    r = subprocess.run(command, check=True, capture_output=True, text=True)
    if run:
        walls.append(time.perf_counter() - began)
        said.append(float(re.search(r"first token after ([\d.]+) s", r.stderr)[1]))
print(f"{' '.join(command)}\nwhole process: least {min(walls):.3f} s, median {sorted(walls)[len(walls) // 2]:.3f} s; first token by its own clock: least {min(said):.2f} s; limit {args.limit} s")
sys.exit(min(walls) > args.limit)
