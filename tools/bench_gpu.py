#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The figures of one GPU beside its peers: our benchmark programs and torch's kernels (eager, compiled, cuBLAS, cuDNN), in
one run, peers replayed from CUDA graphs, random data, medians, a turn of ours and a turn of theirs by turns.

    tools/bench_gpu.py [--bin build/bin] [--parts rows,sampling] [--seconds 500] [--models /dev/shm]

Needs torch on a machine with a GPU. A part takes a minute or two; what is done is kept in --out (JSON) and not done again,
so a run that ends after --seconds is continued by the next one. Most of that time torch compiles its side: --warm does only
that, for several parts side by side if wanted, and keeps it in torch's cache. The table is printed at the end: value, peer,
ratio, share of the limit measured in the same run.

A part is a function of the class Ours or Peers below that returns {name: microseconds or rate}; a program of ours prints
lines `name value unit`. A row of the table names one of each. Whole models have random weights (make_shape_model.py)."""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

ONCE = ("rows", "models", "products")  # one turn of either side, which takes long; two of all others
WIDTHS = [256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131072]
SHAPES = [(28672, 4096), (6144, 4096), (4096, 4096), (4096, 14336), (2048, 8192)]
GEMMS = [("8192", 8192, 8192, 8192), ("4096", 4096, 4096, 4096), ("8b_qkv", 2048, 6144, 4096), ("8b_o", 2048, 4096, 4096),
         ("8b_up", 2048, 28672, 4096), ("8b_down", 2048, 4096, 14336)]
FLASH = [("128_causal_4k", 1, 16, 4096, 128, True), ("128_causal_16k", 1, 16, 16384, 128, True),
         ("128_full_4k", 1, 16, 4096, 128, False), ("64_causal_4k", 1, 16, 4096, 64, True),
         ("64_causal_16x12x1k", 16, 12, 1024, 64, True)]
PAGED = [("32x2k", 32, 2048), ("64x4k", 64, 4096), ("1x32k", 1, 32768)]


TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
HEAD = (128256, 4096)
# products of a step of LLaMA-3-8B: how many of each shape
STEP = {(6144, 4096): 32, (4096, 4096): 32, (28672, 4096): 32, (4096, 14336): 32, HEAD: 1}
# name: (shape and type of make_shape_model.py, [(streams, words for `tokamak bench`)])
ALONE = ["-p", "2048", "-n", "48", "-d", "512"]
MODELS = {"8b_bf16": ("XL", "bf16", [(1, ALONE), (16, ["-p", "0", "-n", "32", "-d", "512", "-b", "16"]),
                                     (64, ["-p", "0", "-n", "32", "-d", "512", "-b", "64"])]),
          "1b_bf16": ("L", "bf16", [(1, ALONE)]), "8b_q8_0": ("XL", "q8_0", [(1, ALONE)]), "8b_q4_0": ("XL", "q4_0", [(1, ALONE)]),
          "8b_q4_k_m": ("XL", "q4_k_m", [(1, ALONE)])}
#            layers, hidden, heads, KV heads, numbers of a head, MLP, vocabulary
TORCH_MODELS = {"8b": (32, 4096, 32, 8, 128, 14336, 128256), "1b": (16, 2048, 32, 8, 64, 8192, 128256)}
PREFILL, DEPTH = 2048, 512


def lines_of(command):
    """{name: value} of what a program prints as `name value unit`"""
    out = subprocess.run(command, capture_output=True, text=True, timeout=580)
    if out.returncode:
        raise RuntimeError(f"{command[0]}: {out.stderr.strip()[-300:] or out.returncode}")
    return {m[1]: float(m[2]) for m in re.finditer(r"^(\S+) ([0-9.e+-]+) \S+$", out.stdout, re.M)}


class Ours:
    """What our programs measure, by part"""

    def __init__(self, args):
        self.bin, self.folder = args.bin, args.models

    def program(self, name, word=""):
        return lines_of([os.path.join(self.bin, name), word])

    def limits(self):
        return {"read_stream": self.program("bench_cuda", "nothing")["read_stream"]}

    def rows(self):
        return {k: v for name in ("norm_", "swiglu", "gelu", "softmax", "rope") for k, v in self.program("bench_rows", name).items()}

    def sampling(self):
        return self.program("bench_rows", "draw")

    def products(self):
        return self.program("bench_cuda", "linear")

    def gemm(self):
        return self.program("bench_gemm")

    def flash(self):
        return self.program("bench_attn", "flash")

    def paged(self):
        return self.program("bench_attn", "paged")

    def models(self):
        """Tokens a second; files that are not there are made, one at a time"""
        found = {}
        maker = os.path.join(os.path.dirname(os.path.abspath(__file__)), "make_shape_model.py")
        for name, (shape, kind, runs) in MODELS.items():
            path = os.path.join(self.folder, name + ".gguf")
            mine = not os.path.exists(path)
            if mine:
                subprocess.run([sys.executable, maker, shape, kind, path], check=True, capture_output=True, timeout=120)
            try:
                for streams, words in runs:
                    out = subprocess.run([os.path.join(self.bin, "tokamak"), "bench", path, "--device", "cuda", "--ctx", "4096", "-r", "3",
                                          "--json", *words], capture_output=True, text=True, timeout=200)
                    if out.returncode:
                        print(f"  {name}, {streams} streams: {out.stderr.strip()[:200]}")
                        continue
                    figures = json.loads(out.stdout)
                    found |= {f"{name}.{what}_{streams}": figures[f"{what}_tok_s"] for what in ("prefill", "decode")
                              if figures.get(f"{what}_tok_s")}
                    found[f"{name}.decode_share_{streams}"] = figures["decode_share"]
            finally:
                if mine:
                    os.unlink(path)
        return found


class Peers:
    """The same by torch"""

    def __init__(self, only="", warm=False):
        import torch
        self.only, self.warm = only, warm
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
            if self.warm:
                return 1.0
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
        copies = []
        for size in (1 << 29, 1 << 31):  # not from a graph, where copies go another way, at 2.6 TB/s
            a = self.torch.empty(size, device="cuda", dtype=self.torch.uint8).random_()
            b, times = self.torch.empty_like(a), []
            for _ in range(9):
                begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
                b.copy_(a)
                begin.record()
                for _ in range(5):
                    b.copy_(a)
                end.record()
                end.synchronize()
                times.append(begin.elapsed_time(end) * 1e3 / 5)
            copies.append(2 * size / statistics.median(times) / 1e3)
            del a, b
        x, w = self.random(8192, 8192), self.random(8192, 8192)
        return {"copy": max(copies), "best_gemm": 2 * 8192**3 / self.microseconds(lambda: self.torch.mm(x, w)) / 1e6}

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
        for rows, cols in SHAPES + [HEAD]:
            copies = max(2, min(12, (3 << 30) // (rows * cols * 2)))
            w = [self.random(rows, cols, scale=0.05) for _ in range(copies)]
            for tokens in TOKENS:
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
        for n in (8192, 4096):
            x, w = (self.random(n, n).to(self.torch.float8_e4m3fn) for _ in range(2))
            one = self.torch.ones((), device="cuda")
            found[f"gemm_fp8_{n}"] = 2 * n**3 / self.microseconds(
                lambda: self.torch._scaled_mm(x, w.t(), one, one, out_dtype=self.torch.bfloat16)) / 1e6
        return found

    def attention(self, shape_q, shape_k, causal):
        """Microseconds of cuDNN's, on one copy of the operands after the other"""
        from torch.nn.attention import SDPBackend, sdpa_kernel
        size = 4 * shape_k[0] * shape_k[1] * shape_k[2] * shape_k[3]
        sets = [(self.random(*shape_q), self.random(*shape_k), self.random(*shape_k)) for _ in range(max(1, min(8, (400 << 20) // size)))]
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return self.microseconds(lambda: [self.f.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])
                                              for q, k, v in sets]) / len(sets)

    def flash(self):
        return {f"flash_{name}": 4 * batch * heads * n * n * d / (2 if causal else 1) /
                self.attention((batch, heads, n, d), (batch, heads, n, d), causal) / 1e6 for name, batch, heads, n, d, causal in FLASH}

    def paged(self):
        return {f"paged_{name}": 4 * batch * 8 * n * 128 / self.attention((batch, 32, 1, 128), (batch, 8, n, 128), False) / 1e3
                for name, batch, n in PAGED}

    def models(self):
        """Whole models by torch.compile, one graph a step; attention by whichever of torch's kernels takes it, cuDNN's first"""
        from torch.nn.attention import SDPBackend, sdpa_kernel
        torch, f, found = self.torch, self.f, {}

        def turned(x, cos, sin):
            a, b = x.chunk(2, -1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

        def layer(x, n1, qkv, o, n2, up, down, keys, values, cos, sin, heads, past):
            batch, tokens, width = x.shape
            kv, d = keys.shape[1], keys.shape[3]
            q, k, v = (f.rms_norm(x, (width,), n1) @ qkv.t()).split([heads * d, kv * d, kv * d], -1)
            q, k, v = (y.view(batch, tokens, -1, d).transpose(1, 2) for y in (q, k, v))
            keys[:, :, past:past + tokens], values[:, :, past:past + tokens] = turned(k, cos, sin), v
            y = f.scaled_dot_product_attention(turned(q, cos, sin), keys[:, :, :past + tokens], values[:, :, :past + tokens],
                                               is_causal=tokens > 1, enable_gqa=True)
            x = x + y.transpose(1, 2).reshape(batch, tokens, heads * d) @ o.t()
            a, b = (f.rms_norm(x, (width,), n2) @ up.t()).chunk(2, -1)
            return x + (f.silu(a) * b) @ down.t()

        for name, (layers, width, heads, kv, d, mlp, vocabulary) in TORCH_MODELS.items():
            w = [(self.random(width), self.random((heads + 2 * kv) * d, width, scale=0.02), self.random(width, heads * d, scale=0.02),
                  self.random(width), self.random(2 * mlp, width, scale=0.02), self.random(width, mlp, scale=0.02)) for _ in range(layers)]
            head, last = self.random(vocabulary, width, scale=0.02), self.random(width)
            for what, batch, tokens, past in (("decode_1", 1, 1, DEPTH), ("decode_16", 16, 1, DEPTH), ("decode_64", 64, 1, DEPTH),
                                              ("prefill_1", 1, PREFILL, 0)):
                if not re.search(self.only, f"{name}.{what}") or (name == "1b" and what != "decode_1"):
                    continue
                torch._dynamo.reset()
                step, x = torch.compile(layer), self.random(batch, tokens, width)
                cos, sin = self.random(tokens, d // 2), self.random(tokens, d // 2)
                cache = [(self.random(batch, kv, past + tokens, d), self.random(batch, kv, past + tokens, d)) for _ in range(layers)]

                def run():
                    y = x
                    for weights, kept in zip(w, cache):
                        y = step(y, *weights, *kept, cos, sin, heads, past)
                    return torch.argmax(f.rms_norm(y[:, -1], (width,), last) @ head.t(), -1)
                with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
                                 set_priority=True):
                    found[f"{name}_bf16.{what}"] = batch * tokens / self.microseconds(run, calls=1, turns=5) * 1e6
                del cache
                torch.cuda.empty_cache()
            del w, head
            torch.cuda.empty_cache()
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
TABLE += [(f"GEMM bf16 {name}", "gemm", [(f"gemm_{name}.linear_f32", f"gemm_{name}")], "best_gemm", "0.97x", "1.00x") for name, *_ in GEMMS]
TABLE += [(f"GEMM fp8 {n}", "gemm", [(f"gemm_fp8_{n}.e4m3_bf16", f"gemm_fp8_{n}")], None, "0.97x", "1.03x") for n in (8192, 4096)]
TABLE += [(f"flash forward {name}", "flash", pairs(f"flash_{name}"), None, "0.97x" if "128" in name else "1.00x",
           "1.05x" if "128" in name else "1.10x") for name, *_ in FLASH]
TABLE += [(f"paged decode {name}", "paged", pairs(f"paged_{name}"), "read_stream", "0.97x", "0.95 of read") for name, *_ in PAGED]
TABLE += [("skinny bf16, 1 token, sum of five", "products",
           [(f"linear_{r}x{c}_bf16_1.us", f"linear_{r}x{c}_1.us") for r, c in SHAPES], None, "1.05x", "1.15x")]
TABLE += [(f"{ours}, 28672x4096, {t} tokens", "products", [(f"linear_28672x4096_{ours}_{t}.us", f"linear_28672x4096_{t}.us")], None,
           reach, aim)
          for ours, figures in [(t, ((1, "2.6x", "3.1x"), (16, "2.4x", "3.0x"), (64, "2.0x", "2.5x"))) for t in ("q4_0", "q4_z", "q4_k")] +
          [(t, ((1, "1.7x", "1.88x"), (16, "1.7x", "1.88x"))) for t in ("q8_0", "f8")]
          for t, reach, aim in figures]
TABLE += [(f"LLaMA-3-8B shape, {kind}, one stream", "models", [(f"8b_{kind}.decode_1", peer)], None, reach, aim)
          for kind, peer, reach, aim in (("bf16", "8b_bf16.decode_1", "245 tok/s", "275"), ("q8_0", "", "465", "520"), ("q4_0", "", "620", "770"),
                                         ("q4_k_m", "", "620", "770"))]
TABLE += [("LLaMA-3.2-1B shape, bf16, one stream", "models", pairs("1b_bf16.decode_1"), None, "1,300 tok/s", "1,520")]
TABLE += [(f"8B bf16, batch {n}", "models", pairs(f"8b_bf16.decode_{n}"), None, reach, aim)
          for n, reach, aim in ((16, "1.12x", "1.27x"), (64, "1.15x", "1.32x"))]
TABLE += [("prefill 8B, 2,048 tokens, bf16", "models", pairs("8b_bf16.prefill_1"), None, "1.02x", "1.06x"),
          ("prefill 8B, Q8_0 (llama.cpp fork 12,100)", "models", [("8b_q8_0.prefill_1", "")], None, "36,300 tok/s", "43,560"),
          ("prefill 8B, Q4_K_M (llama.cpp fork 9,700)", "models", [("8b_q4_k_m.prefill_1", "")], None, "29,100 tok/s", "38,800")]
TABLE += [("top-p, vocabulary 128K, batch 64", "sampling", pairs("draw_top_p_64.us"), None, "20x", "40x"),
          ("top-p, batch 1", "sampling", pairs("draw_top_p_1.us"), None, "", ""),
          ("greedy, batch 1", "sampling", pairs("draw_greedy_1.us"), None, "", "")]
PARTS = ["limits"] + list(dict.fromkeys(row[1] for row in TABLE))


def measure(part, ours, peers):
    """A part's figures, medians of the turns of either side"""
    turns = {"ours": [], "peers": []}
    for _ in range(1 if part in ONCE else 2):
        for side, who in (("ours", ours), ("peers", peers)):
            if hasattr(who, part):
                try:
                    turns[side].append(getattr(who, part)())
                except Exception as e:  # the other side, and other parts, are figures still
                    print(f"  {part} of {side}: {str(e)[:300]}")
    return {side: {k: statistics.median(t[k] for t in all_ if k in t) for k in {k for t in all_ for k in t}}
            for side, all_ in turns.items()}


def prices(done):
    """{tokens: what the products of an 8B step cost more than if each were free to be cuBLAS's}"""
    part, found = done.get("products", {}), {}
    for t in TOKENS:
        both = [(n, part.get("ours", {}).get(f"linear_{r}x{c}_bf16_{t}.us"), part.get("peers", {}).get(f"linear_{r}x{c}_{t}.us"))
                for (r, c), n in STEP.items()]
        if all(a and b for _, a, b in both):
            found[t] = sum(n * a for n, a, _ in both) / sum(n * min(a, b) for n, a, b in both) - 1
    return found


def table(done):
    limits = {k: v for part in done.values() for side in ("ours", "peers") for k, v in part.get(side, {}).items()
              if k in ("copy", "best_gemm", "read_stream")}
    print("\n| what | ours | peer | ratio | share of limit | reach | aim |\n|---|---|---|---|---|---|---|")
    for what, part, names, limit, reach, aim in TABLE:
        ours, peers = done.get(part, {}).get("ours", {}), done.get(part, {}).get("peers", {})
        a, b = [ours.get(x) for x, _ in names], [peers.get(y) for _, y in names]
        if None in a:
            print(f"| {what} | not measured | | | | {reach} | {aim} |")
            continue
        times, whole = names[0][0].endswith(".us"), None not in b
        ratio = (sum(b) / sum(a) if times else min(x / y for x, y in zip(a, b))) if whole else None
        share = f"{min(a) / limits[limit]:.1%} of {limit}" if limit in limits else ""
        text = [f"{sum(v):.1f} us" if times else f"{min(v):,.0f}" for v in ([a, b] if whole else [a])] + [""] * (not whole)
        print(f"| {what} | {text[0]} | {text[1]} | {f'{ratio:.2f}x' if ratio else ''} | {share} | {reach} | {aim} |")
    price = prices(done)
    print(f"| batch-invariant against free choice, products of an 8B step, {', '.join(map(str, price))} streams | "
          f"{', '.join(f'{p:.1%}' for p in price.values())} | | | worst {max(price.values(), default=0):.1%} | <= 4 % | <= 1 % |")
    print("\n" + ", ".join(f"{k} {v:,.0f}" for k, v in limits.items()))
    for part, sides in done.items():
        shares = [f"{k} {v:.0%}" for k, v in sides.get("ours", {}).items() if "share" in k]
        if shares:
            print("shares of the limit: " + ", ".join(shares))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--bin", default="build/bin")
    p.add_argument("--parts", default=",".join(PARTS))
    p.add_argument("--seconds", type=float, default=500, help="begin no part after this time")
    p.add_argument("--out", default="bench_gpu.json")
    p.add_argument("--only", default="", metavar="REGEX", help="compile only these peers of parts rows and models: each takes seconds")
    p.add_argument("--again", action="store_true", help="measure what is in --out already, too")
    p.add_argument("--warm", action="store_true", help="measure nothing: let torch compile")
    p.add_argument("--models", default="/dev/shm", metavar="FOLDER", help="room for model files, 17 GB")
    args = p.parse_args()
    began, state = time.time(), {"parts": {}}
    parts, peers = args.parts.split(","), Peers(args.only, args.warm)
    for part in parts:
        if part not in PARTS:
            p.error(f"no part {part}; there are {', '.join(PARTS)}")
    if args.warm:
        for part in parts:
            getattr(peers, part)()
        return
    if os.path.exists(args.out):
        with open(args.out) as f:
            state = json.load(f)
    state["gpu"], state["torch"] = peers.torch.cuda.get_device_name(), peers.torch.__version__
    state["cudnn"] = peers.torch.backends.cudnn.version()
    for part in parts:
        if (part in state["parts"] and not args.again) or time.time() - began > args.seconds:
            continue
        start = time.time()
        state["parts"][part] = measure(part, Ours(args), peers) | {"date": time.strftime("%Y-%m-%d %H:%M")}
        figures = {side: {k: round(v, 3) for k, v in of.items()} for side, of in state["parts"][part].items() if side != "date"}
        print(f"{part}: {time.time() - start:.0f} s {json.dumps(figures)}", flush=True)
        with open(args.out, "w") as f:
            json.dump(state, f, indent=1)
    print(f"{state['gpu']}, torch {state['torch']}, cuDNN {state['cudnn']}")
    table(state["parts"])


if __name__ == "__main__":
    main()
