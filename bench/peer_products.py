#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The peer of bench_cuda's products: bfloat16 y = x w^T by torch (cuBLAS), at the same shapes and numbers of tokens, from
a CUDA graph that goes from one copy of the weights to the next, so that none comes from the cache. Prints microseconds.

    python3 bench/peer_products.py [tokens,tokens..]
"""
import sys
import torch

SHAPES = [(28672, 4096), (6144, 4096), (4096, 4096), (4096, 14336), (2048, 8192), (128256, 4096)]


def timed(rows, cols, tokens):
    copies = max(2, min(12, (3 << 30) // (rows * cols * 2)))
    w = [torch.randn(rows, cols, device="cuda", dtype=torch.bfloat16) * 0.05 for _ in range(copies)]
    x = torch.randn(tokens, cols, device="cuda", dtype=torch.bfloat16)
    y = torch.empty(tokens, rows, device="cuda", dtype=torch.bfloat16)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for m in w[:2]:
            torch.mm(x, m.t(), out=y)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for m in w:
                torch.mm(x, m.t(), out=y)
        best = 1e9
        for _ in range(5):
            a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            a.record(stream)
            graph.replay()
            b.record(stream)
            b.synchronize()
            best = min(best, a.elapsed_time(b) * 1e3 / copies)
    return best


def main():
    tokens = [int(t) for t in sys.argv[1].split(",")] if len(sys.argv) > 1 else [1, 16, 64]
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}: bf16, microseconds")
    for t in tokens:
        each = {s: timed(*s, t) for s in SHAPES}
        print(f"tokens {t:3}: " + "  ".join(f"{r}x{c} {us:.2f}" for (r, c), us in each.items())
              + f"  sum of the first five {sum(list(each.values())[:5]):.2f}")


if __name__ == "__main__":
    main()
