#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tokamak and llama.cpp in one run: SmolLM2-135M as pulled (Q4_1) and as Q8_0, prompt of 512 tokens and 128 tokens one by one.

    python3 tools/bench_peer.py [--build build] [--pairs 5] [--threads 2,1] [--json]

Measurements alternate (ours, theirs without and with flash attention, ours, ...), so that a change of the machine's state hits
all; medians count, with the slowest and fastest beside them. Each of their figures is the better of their two ways. The
environment is tools/judge.py's (llama.cpp compiled for this machine by clang-22). Then the time to the first token of `run`
with the file in the page cache, and the peak memory at --ctx 8192. Exits 1 if a target is missed. Run it on an idle machine:
the load before the run is printed, and a run under load says little."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROMPT, DECODE, CTX = 512, 128, 8192
TARGETS = {"decode_tok_s": 1.15, "prefill_tok_s": 1.5}  # times llama.cpp's, at 2 threads
FIRST_TOKEN_S, MEMORY_SPARE = 0.4, 60_000_000


def read_json(*words):
    run = subprocess.run([str(w) for w in words], capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{' '.join(map(str, words))}: exit {run.returncode}\n{run.stderr}")
    return json.loads(run.stdout)


def spread(values):
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def model_paths(command, python, build):
    if path := os.environ.get("TOKAMAK_JUDGE_MODEL"):
        q4_1 = path
    else:
        subprocess.run([command, "pull", "smollm2"], check=True, stdout=subprocess.DEVNULL)
        q4_1 = next(e["path"] for e in read_json(command, "ls", "--json") if e["name"] == "smollm2")
    q8_0 = build / "smollm2-q8_0.gguf"
    if not q8_0.exists():
        part = build / "smollm2-q8_0.part"
        subprocess.run([python, ROOT / "tools" / "bench_llama.py", "q8_0", q4_1, part], check=True)
        part.rename(q8_0)
    return {"Q4_1": q4_1, "Q8_0": q8_0}


def compare(command, python, path, threads, pairs):
    """Both programs' rates of prefill and decode, and their ratio."""
    ours = [command, "bench", path, "-p", PROMPT, "-n", DECODE, "-r", 1, "--threads", threads, "--ctx", 2 * PROMPT, "--json"]
    got = {"tokamak": [], "flash off": [], "flash on": []}
    for _ in range(pairs):
        got["tokamak"].append(read_json(*ours))
        for flash, name in ((0, "flash off"), (1, "flash on")):
            got[name].append(read_json(python, ROOT / "tools" / "bench_llama.py", "measure", path, threads, flash, PROMPT, DECODE))
    out = {}
    for figure in TARGETS:
        rates = {name: spread([x[figure] for x in runs]) for name, runs in got.items()}
        best = max(("flash off", "flash on"), key=lambda name: rates[name]["median"])
        out[figure] = {**rates, "best": best, "ratio": rates["tokamak"]["median"] / rates[best]["median"]}
    return out


def first_token(command, path, threads):
    """Seconds from the start of the process to the first byte of the answer."""
    words = [command, "run", path, "-p", "What is the capital of France?", "-n", "8", "--temp", "0", "--threads", str(threads)]
    times = []
    for _ in range(6):
        start = time.perf_counter()
        with subprocess.Popen([str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as p:
            p.stdout.read(1)
            times.append(time.perf_counter() - start)
            p.stdout.read()
    return spread(times[1:])


def peak_memory(command, path, threads):
    """Bytes of a `run` that fills most of the context, by the kernel's count (mapped pages of the file included)."""
    text = b"".join(p.read_bytes() for p in sorted((ROOT / "tests" / "data" / "texts").glob("*.txt")))
    text += text[:len(text) * 2 // 5]  # some 7,600 tokens
    with tempfile.NamedTemporaryFile() as f:
        f.write(text)
        f.flush()
        words = [command, "run", path, "--raw", "-f", f.name, "-n", "16", "--ctx", CTX, "--kv-type", "f16", "--threads", threads]
        p = subprocess.Popen([str(w) for w in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode:
        sys.exit(f"run at --ctx {CTX}: exit {p.returncode}")
    return usage.ru_maxrss * 1024


def memory_limit(command, path):
    """Weights as the file has them, keys and values of CTX positions in f16 (whether all are used or not), and the spare."""
    shown = read_json(command, "show", path, "--json")
    return shown["weight_bytes"] + CTX * shown["kv_bytes_per_token"] + MEMORY_SPARE


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--build", default="build")
    args.add_argument("--pairs", type=int, default=5)
    args.add_argument("--threads", default="2,1")
    args.add_argument("--json", action="store_true")
    args = args.parse_args()
    build = pathlib.Path(args.build).resolve()
    command = build / "bin" / "tokamak"
    python = pathlib.Path(os.environ.get("TOKAMAK_JUDGE_VENV", build / ".venv-judge")).absolute() / "bin" / "python"
    if not python.exists():
        sys.exit(f"no peer: {python} is missing\nmake it by `make judge` or `python3 tools/judge.py --set-up`")
    threads = [int(t) for t in args.threads.split(",")]
    say = (lambda *a, **k: None) if args.json else print
    load = os.getloadavg()[0]
    result = {"load_before": load, "pairs": args.pairs, "files": {}}
    say(f"load before the run {load:.2f}{' (NOT IDLE: rough figures)' if load > 0.5 else ''}; {args.pairs} rounds")
    bad = 0

    def target(value, limit, ok):
        nonlocal bad
        bad += not ok
        return f"{value}  {'pass' if ok else 'FAIL'} (target {limit})"

    for name, path in model_paths(command, python, build).items():
        r = result["files"][name] = {"threads": {}}
        for t in threads:
            r["threads"][t] = figures = compare(command, python, path, t, args.pairs)
            for what, f in figures.items():
                verdict = f"{f['ratio']:.2f}x"
                if t == 2:
                    verdict = target(verdict, f"{TARGETS[what]}x", f["ratio"] >= TARGETS[what])
                us, them = f["tokamak"], f[f["best"]]
                say(f"{name} {t} threads {what[:-6]:8} tokamak {us['median']:7.1f} [{us['low']:.1f} .. {us['high']:.1f}]   "
                    f"llama.cpp ({f['best']}) {them['median']:7.1f} [{them['low']:.1f} .. {them['high']:.1f}]   {verdict}")
        r["first_token_s"] = first = first_token(command, path, max(threads))
        r["peak_bytes"] = peak = peak_memory(command, path, max(threads))
        r["peak_limit_bytes"] = limit = memory_limit(command, path)
        shown = f"{1000 * first['median']:.0f} ms [{1000 * first['low']:.0f} .. {1000 * first['high']:.0f}]"
        say(f"{name} first token of run: {target(shown, f'{1000 * FIRST_TOKEN_S:.0f} ms', first['median'] < FIRST_TOKEN_S)}")
        say(f"{name} peak memory at --ctx {CTX}: {target(f'{peak / 1e6:.1f} MB', f'{limit / 1e6:.1f} MB: weights, KV and 60 MB', peak <= limit)}")
    result["missed"] = bad
    if args.json:
        print(json.dumps(result, indent=1))
    sys.exit(bad > 0)


main()
