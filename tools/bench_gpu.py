#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The figures of one GPU beside its peers: our benchmark programs and torch's kernels (eager, compiled, cuBLAS, cuDNN), in
one run, peers replayed from CUDA graphs, random data, medians, a turn of ours and a turn of theirs by turns.

    tools/bench_gpu.py [--bin build/bin] [--parts rows,sampling] [--seconds 500] [--model 8b-bf16=FILE ...]

Needs torch on a machine with a GPU. A part takes a minute or two; what is done is kept in --out (JSON) and not done again,
so a run that ends after --seconds is continued by the next one. The table is printed at the end: value, peer, ratio, share
of the limit measured in the same run.

A part is a function of the class Ours or Peers below that returns {name: microseconds or rate}; a program of ours prints
lines `name value unit`. A row of the table names one of each."""
import argparse
import json
import os
import re
import statistics
import subprocess
import time

ROUNDS = 2
WIDTHS = [256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131072]
SHAPES = [(28672, 4096), (6144, 4096), (4096, 4096), (4096, 14336), (2048, 8192)]
GEMMS = [("8192", 8192, 8192, 8192), ("4096", 4096, 4096, 4096), ("8b_qkv", 2048, 6144, 4096), ("8b_o", 2048, 4096, 4096),
         ("8b_up", 2048, 28672, 4096), ("8b_down", 2048, 4096, 14336)]
FLASH = [("128_causal_4k", 1, 16, 4096, 128, True), ("128_causal_16k", 1, 16, 16384, 128, True),
         ("128_full_4k", 1, 16, 4096, 128, False), ("64_causal_4k", 1, 16, 4096, 64, True),
         ("64_causal_16x12x1k", 16, 12, 1024, 64, True)]
PAGED = [("32x2k", 32, 2048), ("64x4k", 64, 4096), ("1x32k", 1, 32768)]


def lines_of(command):
    """{name: value} of what a program prints as `name value unit`, and of the tables of bench_cuda."""
    out = subprocess.run(command, capture_output=True, text=True, timeout=580)
    if out.returncode:
        raise RuntimeError(f"{command[0]}: {out.stderr.strip()[-300:] or out.returncode}")
    found = {}
    for line in out.stdout.splitlines():
        if m := re.fullmatch(r"(\S+) ([0-9.e+-]+) (\S+)", line.strip()):
            found[m[1]] = float(m[2])
        elif m := re.fullmatch(r"(linear|attn_paged) (\d+) ?x ?(\d+) +(\w+) +(\d+) +([0-9.]+) .*", line.strip()):
            found[f"{m[1]}_{m[2]}x{m[3]}_{m[4]}_{m[5]}.us"] = float(m[6])
    return found


class Ours:
    """What our programs measure, by part"""

    def __init__(self, args):
        self.bin, self.models = args.bin, dict(m.split("=", 1) for m in args.model)

    def program(self, name, *words):
        return lines_of([os.path.join(self.bin, name), *words])

    def rows(self):
        return {k: v for name in ("norm_", "swiglu", "gelu", "softmax", "rope") for k, v in self.program("bench_rows", name).items()}

    def sampling(self):
        return self.program("bench_rows", "draw")

    def products(self):
        return {k: v for t in ("bf16", "q8_0", "q4_0", "q4_k") for k, v in self.program("bench_cuda", f"linear {t}").items()}

    def gemm(self):
        return self.program("bench_gemm")

    def flash(self):
        return self.program("bench_cuda", "attn ")

    def paged(self):
        return self.program("bench_cuda", "attn_paged")

    def models(self):
        """Tokens a second of whole models, `--model NAME=FILE`"""
        found = {}
        for name, path in self.models.items():
            words = [os.path.join(self.bin, "tokamak"), "bench", path, "--device", "cuda", "--json"]
            out = json.loads(subprocess.run(words, capture_output=True, text=True, check=True, timeout=580).stdout)
            found |= {f"{name}.{what}": out[f"{what}_tok_s"] for what in ("prefill", "decode") if out.get(f"{what}_tok_s")}
        return found


class Peers:
    """The same by torch"""

    def __init__(self, only=""):
        import torch
        self.only = only
        self.torch, self.f = torch, torch.nn.functional
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = True

    def random(self, *shape, scale=1.0):
        return self.torch.randn(*shape, device="cuda", dtype=self.torch.bfloat16) * scale

    def microseconds(self, call, calls=4, turns=9):
        """The median of one call, replayed from a graph"""
        torch, stream = self.torch, self.torch.cuda.Stream()
        with torch.cuda.stream(stream), torch.no_grad():
            for _ in range(3):
                call()
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):
                for _ in range(calls):
                    call()
            graph.replay()
            times = []
            for _ in range(turns):
                begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                begin.record(stream)
                for _ in range(5):
                    graph.replay()
                end.record(stream)
                end.synchronize()
                times.append(begin.elapsed_time(end) * 1e3 / (5 * calls))
        return statistics.median(times)

    def rates(self, cases):
        """Of {name: (call, bytes)}: GB/s"""
        found = {}
        for name, (make, size) in cases.items():
            if not re.search(self.only, name):
                continue
            self.torch._dynamo.reset()
            try:
                found[name] = size / self.microseconds(make()) / 1e3
            except Exception as e:  # a peer that cannot run is no figure, and no end
                print(f"  {name}: {str(e).splitlines()[0][:120]}")
            self.torch.cuda.empty_cache()
        return found

    def limits(self):
        a = self.torch.empty(1 << 29, device="cuda", dtype=self.torch.uint8).random_()
        b = self.torch.empty_like(a)
        x, w = self.random(8192, 8192), self.random(8192, 8192)
        us, copies = self.microseconds(lambda: self.torch.mm(x, w)), []
        for _ in range(9):  # not from a graph, where copies go another way, at 2.6 TB/s
            begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(5):
                b.copy_(a)
            end.record()
            end.synchronize()
            copies.append(begin.elapsed_time(end) * 1e3 / 5)
        return {"copy": 2 * a.numel() / statistics.median(copies) / 1e3, "best_gemm": 2 * 8192**3 / us / 1e6}

    def rows(self):
        torch, f = self.torch, self.f

        def norm(n, layer):
            def make():
                x, w, b = self.random((1 << 28) // n, n), self.random(n), self.random(n)
                call = (lambda: f.layer_norm(x, (n,), w, b)) if layer else (lambda: f.rms_norm(x, (n,), w))
                return torch.compile(call)
            return make, 4 << 28

        def compiled(call, *shapes):
            def make():
                operands = [self.random(*s) for s in shapes]
                return torch.compile(lambda: call(*operands))
            return make

        def add_norm(x, y, w):
            z = x + y
            return z, f.rms_norm(z, (z.shape[-1],), w)

        cases = {f"norm_{n}": norm(n, False) for n in WIDTHS} | {f"lnorm_{n}": norm(n, True) for n in WIDTHS}
        cases["add_norm_8192"] = compiled(add_norm, (32768, 8192), (32768, 8192), (8192,)), 32768 * 8192 * 8
        cases["swiglu"] = compiled(lambda a, b: f.silu(a) * b, (16384, 14336), (16384, 14336)), 16384 * 14336 * 6
        for name, how in (("tanh", "tanh"), ("erf", "none")):
            cases[f"bias_gelu_{name}"] = compiled(lambda x, b, how=how: f.gelu(x + b, approximate=how), (16384, 16384), (16384,)), 4 << 28
        cases["softmax_8192x32768"] = compiled(lambda x: f.softmax(x, -1), (8192, 32768)), 4 << 28
        return self.rates(cases)

    def sampling(self):
        torch = self.torch
        found = {}
        for batch in (64, 1):
            x = torch.randn(batch, 131072, device="cuda") * 2

            def top_p():
                values, ids = torch.sort(torch.softmax(x, -1), dim=-1, descending=True)
                values[values.cumsum(-1) - values > 0.9] = 0
                return ids.gather(-1, torch.multinomial(values, 1))
            found[f"draw_top_p_{batch}.us"] = self.microseconds(top_p)
        found["draw_greedy_1.us"] = self.microseconds(lambda: torch.argmax(x, -1))
        return found

    def products(self):
        """cuBLAS on bfloat16 weights, going from one copy to the next so that none comes from the cache"""
        found = {}
        for rows, cols in SHAPES:
            copies = max(2, min(12, (3 << 30) // (rows * cols * 2)))
            w = [self.random(rows, cols, scale=0.05) for _ in range(copies)]
            for tokens in (1, 16, 64):
                x, y = self.random(tokens, cols), self.random(tokens, rows)
                found[f"linear_{rows}x{cols}_{tokens}.us"] = self.microseconds(
                    lambda: [self.torch.mm(x, m.t(), out=y) for m in w], calls=1) / copies
            del w
            self.torch.cuda.empty_cache()
        return found

    def gemm(self):
        found = {}
        for name, tokens, rows, cols in GEMMS:
            x, w = self.random(tokens, cols), self.random(rows, cols)
            found[f"gemm_{name}"] = 2 * tokens * rows * cols / self.microseconds(lambda: self.torch.mm(x, w.t())) / 1e6
        return found

    def attention(self, q, k, v, causal, flops):
        from torch.nn.attention import SDPBackend, sdpa_kernel
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            us = self.microseconds(lambda: self.f.scaled_dot_product_attention(q, k, v, is_causal=causal,
                                                                               enable_gqa=q.shape[1] != k.shape[1]))
        return flops / us / 1e6

    def flash(self):
        found = {}
        for name, batch, heads, n, d, causal in FLASH:
            q, k, v = (self.random(batch, heads, n, d) for _ in range(3))
            found[f"flash_{name}"] = self.attention(q, k, v, causal, 4 * batch * heads * n * n * d / (2 if causal else 1))
        return found

    def paged(self):
        found = {}
        for name, batch, n in PAGED:
            q, k, v = self.random(batch, 32, 1, 128), self.random(batch, 8, n, 128), self.random(batch, 8, n, 128)
            found[f"paged_{name}"] = self.attention(q, k, v, False, 2 * batch * 8 * n * 128 * 2) * 1e3  # GB/s
        return found


# One line of the table: what, part, (our name, peer's name) pairs, the limit that the rate is a share of, reach, aim. Times
# (.us) are better when smaller; of several pairs the sum of times, the least ratio of rates.
def pairs(*names):
    return [(n, n) for n in names]


TABLE = [(f"RMSNorm n = {n}, bf16", "rows", pairs(f"norm_{n}"), "copy", "0.95 of copy", "0.98") for n in WIDTHS]
TABLE += [(f"LayerNorm n = {n}, bf16", "rows", pairs(f"lnorm_{n}"), "copy", "0.95 of copy", "0.98") for n in WIDTHS]
TABLE += [(what, "rows", pairs(name), "copy", "0.96 of copy", "0.98") for what, name in
          (("SwiGLU", "swiglu"), ("bias + GELU (tanh)", "bias_gelu_tanh"), ("bias + GELU (erf)", "bias_gelu_erf"),
           ("softmax 8,192 x 32,768", "softmax_8192x32768"), ("rope", "rope"), ("add + RMSNorm", "add_norm_8192"))]
TABLE += [(f"GEMM bf16 {name}", "gemm", pairs(f"gemm_{name}"), "best_gemm", "0.97x", "1.00x") for name, *_ in GEMMS]
TABLE += [(f"flash forward {name}", "flash", pairs(f"flash_{name}"), None, "0.97x" if "128" in name else "1.00x",
           "1.05x" if "128" in name else "1.10x") for name, *_ in FLASH]
TABLE += [(f"paged decode {name}", "paged", pairs(f"paged_{name}"), "read_stream", "0.97x", "0.95 of read") for name, *_ in PAGED]
TABLE += [("skinny bf16, 1 token, sum of five", "products",
           [(f"linear_{r}x{c}_bf16_1.us", f"linear_{r}x{c}_1.us") for r, c in SHAPES], None, "1.05x", "1.15x")]
TABLE += [(f"{ours}, 28672x4096, {t} tokens", "products", [(f"linear_28672x4096_{ours}_{t}.us", f"linear_28672x4096_{t}.us")], None,
           reach, aim)
          for ours, figures in (("q4_0", ((1, "2.6x", "3.1x"), (16, "2.4x", "3.0x"), (64, "2.0x", "2.5x"))),
                                ("q8_0", ((1, "1.7x", "1.88x"), (16, "1.7x", "1.88x"))))
          for t, reach, aim in figures]
TABLE += [("top-p, vocabulary 128K, batch 64", "sampling", pairs("draw_top_p_64.us"), None, "20x", "40x"),
          ("top-p, batch 1", "sampling", pairs("draw_top_p_1.us"), None, "", ""),
          ("greedy, batch 1", "sampling", pairs("draw_greedy_1.us"), None, "", "")]
PARTS = ["limits"] + list(dict.fromkeys(row[1] for row in TABLE)) + ["models"]


def measure(part, ours, peers):
    """A part's figures, medians of ROUNDS turns of either side"""
    turns = {"ours": [], "peers": []}
    for _ in range(ROUNDS):
        for side, who in (("ours", ours), ("peers", peers)):
            if hasattr(who, part):
                try:
                    turns[side].append(getattr(who, part)())
                except (RuntimeError, OSError, subprocess.SubprocessError) as e:
                    print(f"  {part} of {side}: {e}")
    return {side: {k: statistics.median(t[k] for t in all_ if k in t) for k in {k for t in all_ for k in t}}
            for side, all_ in turns.items()}


def table(done):
    limits = {k: v for part in done.values() for side in ("ours", "peers") for k, v in part.get(side, {}).items()
              if k in ("copy", "best_gemm", "read_stream")}
    print("\n| what | ours | peer | ratio | share of limit | reach | aim |\n|---|---|---|---|---|---|---|")
    for what, part, names, limit, reach, aim in TABLE:
        ours, peers = done.get(part, {}).get("ours", {}), done.get(part, {}).get("peers", {})
        a, b = [ours.get(x) for x, _ in names], [peers.get(y) for _, y in names]
        if None in a:
            continue
        times, whole = names[0][0].endswith(".us"), None not in b
        ratio = (sum(b) / sum(a) if times else min(x / y for x, y in zip(a, b))) if whole else None
        share = f"{min(a) / limits[limit]:.1%} of {limit}" if limit in limits else ""
        text = [f"{sum(v):.1f} us" if times else f"{min(v):,.0f}" for v in ([a, b] if whole else [a])] + [""] * (not whole)
        print(f"| {what} | {text[0]} | {text[1]} | {f'{ratio:.2f}x' if ratio else ''} | {share} | {reach} | {aim} |")
    print("\n" + ", ".join(f"{k} {v:,.0f}" for k, v in limits.items()))
    for k, v in done.get("models", {}).get("ours", {}).items():
        print(f"{k}: {v:,.1f} tok/s")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--bin", default="build/bin")
    p.add_argument("--parts", default=",".join(PARTS))
    p.add_argument("--seconds", type=float, default=500, help="begin no part after this time")
    p.add_argument("--out", default="bench_gpu.json")
    p.add_argument("--only", default="", metavar="REGEX", help="compile only these peers of part rows: each takes seconds")
    p.add_argument("--again", action="store_true", help="measure what is in --out already, too")
    p.add_argument("--model", action="append", default=[], metavar="NAME=FILE")
    args = p.parse_args()
    began, state = time.time(), {"parts": {}}
    if os.path.exists(args.out):
        with open(args.out) as f:
            state = json.load(f)
    ours, peers = Ours(args), Peers(args.only)
    state["gpu"], state["torch"] = peers.torch.cuda.get_device_name(), peers.torch.__version__
    state["cudnn"] = peers.torch.backends.cudnn.version()
    for part in args.parts.split(","):
        if part not in PARTS:
            p.error(f"no part {part}; there are {', '.join(PARTS)}")
        if (part in state["parts"] and not args.again) or time.time() - began > args.seconds:
            continue
        print(f"{part} ...", flush=True)
        state["parts"][part] = measure(part, ours, peers) | {"date": time.strftime("%Y-%m-%d %H:%M")}
        with open(args.out, "w") as f:
            json.dump(state, f, indent=1)
    print(f"{state['gpu']}, torch {state['torch']}, cuDNN {state['cudnn']}")
    table(state["parts"])


if __name__ == "__main__":
    main()
