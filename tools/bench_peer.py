#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tokamak and llama.cpp in one run, in all the settings whose speed is promised (docs/FACTS.md): two shapes of model, weight
types, prompts and answers, one thread, a long context, eight sequences at once.

    python3 tools/bench_peer.py [--build build] [--pairs 5] [--quick] [--only TEXT,..] [--again] [--show] [--json]

S is SmolLM2-135M's shape (Q4_1: the file that `pull` brings), L is LLaMA-3.2-1B's; the other files hold noise, made at the
first run by tools/make_shape_model.py in BUILD/shapes. For each part (a file and a setting) measurements alternate: ours,
theirs without and with flash attention (after the first round only the ways that won something), ours, ... so that a change of
the machine's state hits all. Medians count, with the slowest and fastest beside them; theirs is the better of their two ways.
Limits come from our `bench` in the same rounds: reading all weights and the cache once a step at the memory's measured speed
(the best round's), all products at the unit's measured rate; both programs are held against them.

Parts are kept in BUILD/bench_peer.json as they are done, and a part that is there is not measured again (--again does), so a run
that was stopped goes on where it was; --show prints what is there. --quick: two rounds and shorter answers, the whole table
in some twelve minutes. The environment is tools/judge.py's (llama.cpp compiled for this machine by clang-22). Last come the time
to the first token of `run` with the file in the page cache, and the peak memory at --ctx 8192. Exits 1 if a figure is behind
llama.cpp's or a target is missed. Run it on an idle machine: the load before each part is kept, and a part under load says little."""
import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CTX, FIRST_TOKEN_S, MEMORY_SPARE = 8192, 0.4, 60_000_000
PREFILL, DECODE = "prefill_tok_s", "decode_tok_s"
TARGETS = {PREFILL: 1.5, DECODE: 1.15}  # times llama.cpp's, of quantized S at 2 threads

# name: (shape, type, threads, prompt, answer, depth, sequences). The answers of L are shorter: so are the others' patience
PARTS = {}
for shape, types, answer in (("S", ("q8_0", "q4_0", "q4_1", "bf16", "f32"), 128), ("L", ("q8_0", "q4_0", "q4_k_m", "bf16"), 32)):
    for kind in types:
        PARTS[f"{shape} {kind}"] = (shape, kind, 2, 512, answer, 0, 1)
PARTS["S q8_0, 1 thread"] = ("S", "q8_0", 1, 512, 64, 0, 1)
PARTS["S q4_0, 1 thread"] = ("S", "q4_0", 1, 0, 64, 0, 1)
PARTS["L q8_0, 1 thread"] = ("L", "q8_0", 1, 0, 16, 0, 1)
PARTS["S q8_0, depth 2048"] = ("S", "q8_0", 2, 0, 64, 2048, 1)
PARTS["S q8_0, 8 sequences"] = ("S", "q8_0", 2, 0, 32, 0, 8)


def read_json(*words):
    run = subprocess.run([str(w) for w in words], capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{' '.join(map(str, words))}: exit {run.returncode}\n{run.stderr}")
    return json.loads(run.stdout)


def spread(values):
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


class Bench:
    def __init__(self, build, pairs, quick):
        self.build, self.pairs, self.quick = build, pairs, quick
        self.command = build / "bin" / "tokamak"
        self.python = pathlib.Path(os.environ.get("TOKAMAK_JUDGE_VENV", build / ".venv-judge")).absolute() / "bin" / "python"
        self.threads = min(2, os.cpu_count())

    def pulled(self):
        if path := os.environ.get("TOKAMAK_JUDGE_MODEL"):
            return path
        subprocess.run([self.command, "pull", "smollm2"], check=True, stdout=subprocess.DEVNULL)
        return next(e["path"] for e in read_json(self.command, "ls", "--json") if e["name"] == "smollm2")

    def made(self, path, *words):
        """A file that `words` and its path make; whole or not there at all."""
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            part = path.with_suffix(".part")
            subprocess.run([self.python, *words, part], check=True)
            part.rename(path)
        return path

    def model(self, shape, kind):
        if (shape, kind) == ("S", "q4_1"):
            return self.pulled()
        return self.made(self.build / "shapes" / f"{shape}-{kind}.gguf", ROOT / "tools" / "make_shape_model.py", shape, kind)

    def part(self, shape, kind, threads, prompt, answer, depth, seqs):
        path = self.model(shape, kind)
        threads, answer = min(threads, self.threads), answer // 2 if self.quick else answer
        figures = [f for f, n in ((PREFILL, prompt), (DECODE, answer)) if n]
        ours = [self.command, "bench", path, "-p", prompt, "-n", answer, "-d", depth, "-b", seqs, "-r", 1 if shape == "L" else 3,
                "--threads", threads, "--ctx", depth + max(prompt, answer) + 64, "--json"]
        got, rounds, ways = {"tokamak": [], "flash off": [], "flash on": []}, [], ["flash off", "flash on"]
        started, load = datetime.datetime.now(datetime.timezone.utc), os.getloadavg()[0]
        for i in range(self.pairs):
            rounds.append(read_json(*ours))
            got["tokamak"].append(rounds[-1])
            for way in ways:
                got[way].append(read_json(self.python, ROOT / "tools" / "bench_llama.py", "measure", path, threads,
                                          int(way == "flash on"), prompt, answer, depth, seqs, 1 if shape == "L" else 3))
            if i == 0:
                ways = [w for w in ways if any(got[w][0][f] == max(got[x][0][f] for x in ways) for f in figures)]
        out = {"when": started.isoformat(timespec="minutes"), "load_before": load, "pairs": self.pairs, "quick": self.quick,
               "threads": threads, "memory_bytes_s": max(r["memory_bytes_s"] for r in rounds),
               "compute_ops_s": max(r["compute_ops_s"] for r in rounds), "figures": {}}
        for f in figures:
            rates = {name: spread([r[f] for r in runs]) for name, runs in got.items() if runs}
            best = max(ways, key=lambda name: rates[name]["median"])
            limit = max(r[f.replace("_tok_s", "_limit_tok_s")] for r in rounds)
            out["figures"][f] = {"tokamak": rates["tokamak"], "llama.cpp": rates[best], "best": best, "limit": limit,
                                 "ratio": rates["tokamak"]["median"] / rates[best]["median"],
                                 "share": rates["tokamak"]["median"] / limit, "peer_share": rates[best]["median"] / limit}
        return out

    def first_token(self, path):
        """Seconds from the start of the process to the first byte of the answer."""
        words = [self.command, "run", path, "-p", "What is the capital of France?", "-n", "8", "--temp", "0",
                 "--threads", str(self.threads)]
        times = []
        for _ in range(6):
            start = time.perf_counter()
            with subprocess.Popen([str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as p:
                p.stdout.read(1)
                times.append(time.perf_counter() - start)
                p.stdout.read()
        return spread(times[1:])

    def peak_memory(self, path):
        """Bytes of a `run` that fills most of the context, by the kernel's count (mapped pages of the file included)."""
        text = b"".join(p.read_bytes() for p in sorted((ROOT / "tests" / "data" / "texts").glob("*.txt")))
        text += text[:len(text) * 2 // 5]  # some 7,600 tokens
        with tempfile.NamedTemporaryFile() as f:
            f.write(text)
            f.flush()
            words = [self.command, "run", path, "--raw", "-f", f.name, "-n", "16", "--ctx", CTX, "--kv-type", "f16",
                     "--threads", self.threads]
            p = subprocess.Popen([str(w) for w in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(p.pid, 0)
            p.returncode = os.waitstatus_to_exitcode(status)
        if p.returncode:
            sys.exit(f"run at --ctx {CTX}: exit {p.returncode}")
        return usage.ru_maxrss * 1024

    def start(self, path):
        """The first token and the memory: weights as the file has them, keys and values of CTX positions in f16, and the spare."""
        shown = read_json(self.command, "show", path, "--json")
        kv = next(m["kv"] for m in shown["memory"] if m["ctx"] == CTX)
        return {"first_token_s": self.first_token(path), "peak_bytes": self.peak_memory(path),
                "peak_limit_bytes": shown["weight_bytes"] + kv + MEMORY_SPARE}

    def starts(self):
        q4_1 = self.pulled()
        q8_0 = self.made(self.build / "smollm2-q8_0.gguf", ROOT / "tools" / "bench_llama.py", "q8_0", q4_1)
        return {"Q4_1": self.start(q4_1), "Q8_0": self.start(q8_0)}


def show(kept):
    """The table as Markdown; returns how many figures are behind or missed."""
    bad = 0
    print("| model, figure | Tokamak tok/s | llama.cpp tok/s | ratio | limit | share, theirs | load |\n|---|---|---|---|---|---|---|")
    for name, part in kept.items():
        for f, r in part.get("figures", {}).items():
            need = TARGETS[f] if name in ("S q8_0", "S q4_1") else 1
            bad += r["ratio"] < need
            us, them = r["tokamak"], r["llama.cpp"]
            print(f"| {name} {f[:-6]} | {us['median']:.1f} [{us['low']:.1f}-{us['high']:.1f}] "
                  f"| {them['median']:.1f} [{them['low']:.1f}-{them['high']:.1f}] {r['best']} "
                  f"| {r['ratio']:.2f}{'' if r['ratio'] >= need else ' BEHIND'} | {r['limit']:.0f} "
                  f"| {100 * r['share']:.0f} %, {100 * r['peer_share']:.0f} % | {part['load_before']:.1f} |")
    for name, r in kept.get("start", {}).get("files", {}).items():
        first = r["first_token_s"]
        missed = (first["median"] >= FIRST_TOKEN_S) + (r["peak_bytes"] > r["peak_limit_bytes"])
        bad += missed
        print(f"\n{name}: first token of `run` {1000 * first['median']:.0f} ms [{1000 * first['low']:.0f}-{1000 * first['high']:.0f}] "
              f"(target {1000 * FIRST_TOKEN_S:.0f}), peak memory at --ctx {CTX} {r['peak_bytes'] / 1e6:.1f} MB (limit "
              f"{r['peak_limit_bytes'] / 1e6:.1f}: weights, KV and 60 MB){' MISSED' if missed else ''}")
    return bad


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--build", default="build")
    args.add_argument("--pairs", type=int, default=0, help="rounds of a part (5; 2 with --quick)")
    args.add_argument("--quick", action="store_true")
    args.add_argument("--only", default="", help="parts whose name holds one of these, comma between them")
    args.add_argument("--again", action="store_true")
    args.add_argument("--show", action="store_true")
    args.add_argument("--json", action="store_true")
    args = args.parse_args()
    build = pathlib.Path(args.build).resolve()
    b = Bench(build, args.pairs or (2 if args.quick else 5), args.quick)
    if not b.python.exists() and not args.show:
        sys.exit(f"no peer: {b.python} is missing\nmake it by `make judge` or `python3 tools/judge.py --set-up`")
    file = build / "bench_peer.json"
    kept = json.loads(file.read_text()) if file.exists() else {}

    def keep(name, make):
        if args.show or (name in kept and not args.again) or not any(o.strip() in name for o in args.only.split(",")):
            return
        start, load = time.monotonic(), os.getloadavg()[0]
        kept[name] = make()
        file.with_suffix(".part").write_text(json.dumps(kept, indent=1))
        file.with_suffix(".part").rename(file)
        print(f"{name}: {time.monotonic() - start:.0f} s, load before {load:.2f}{' (NOT IDLE: rough figures)' if load > 0.5 else ''}",
              file=sys.stderr)

    for name, setting in PARTS.items():
        keep(name, lambda: b.part(*setting))
    keep("start", lambda: {"files": b.starts()})
    if args.json:
        print(json.dumps(kept, indent=1))
        sys.exit(0)
    sys.exit(show(kept) > 0)


main()
