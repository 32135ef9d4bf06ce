# SPDX-License-Identifier: Apache-2.0
"""One measurement of llama.cpp (PyPI's llama-cpp-python) for tools/bench_peer.py: tokens a second of a prompt in one batch and
of tokens fed one by one, after one run of each to warm up. Also makes the Q8_0 file. A process of its own a measurement, as
Tokamak's `bench` is, so that neither inherits the other's threads and caches.

    PYTHON tools/bench_llama.py measure MODEL THREADS FLASH PROMPT DECODE     -> {"prefill_tok_s": .., "decode_tok_s": ..}
    PYTHON tools/bench_llama.py q8_0 MODEL OUT"""
import ctypes
import json
import random
import sys
import time

import llama_cpp as lc


@lc.llama_log_callback
def quiet(level, text, data):
    pass


def batch_of(ids, at):
    """The tokens ids at the positions from `at` on; logits for the last."""
    b = lc.llama_batch_init(len(ids), 0, 1)
    b.n_tokens = len(ids)
    for i, t in enumerate(ids):
        b.token[i], b.pos[i], b.n_seq_id[i], b.logits[i] = t, at + i, 1, i == len(ids) - 1
        b.seq_id[i][0] = 0
    return b


def measure(path, threads, flash, prompt, decode):
    params = lc.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = max(prompt, decode) + 64, max(prompt, 512), max(prompt, 512)
    params.n_threads = params.n_threads_batch = threads
    if hasattr(params, "flash_attn_type"):
        params.flash_attn_type = int(flash)
    else:
        params.flash_attn = bool(flash)
    model = lc.llama_model_load_from_file(path.encode(), lc.llama_model_default_params())
    ctx = lc.llama_init_from_model(model, params)
    memory, vocab = lc.llama_get_memory(ctx), lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(model))
    rng = random.Random(1)
    ids = [rng.randrange(vocab) for _ in range(max(prompt, decode))]
    whole, ones = batch_of(ids[:prompt], 0), [batch_of([t], i) for i, t in enumerate(ids[:decode])]

    def once(batches):
        lc.llama_memory_clear(memory, True)
        start = time.perf_counter()
        for b in batches:
            if lc.llama_decode(ctx, b):
                sys.exit("llama_decode failed")
            lc.llama_get_logits(ctx)  # waits for the result
        return time.perf_counter() - start

    rates = {}
    for name, batches, n in (("prefill_tok_s", [whole], prompt), ("decode_tok_s", ones, decode)):
        once(batches)
        rates[name] = n / once(batches)
    print(json.dumps(rates))


def q8_0(path, out):
    params = lc.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = lc.LLAMA_FTYPE_MOSTLY_Q8_0, True
    if lc.llama_model_quantize(path.encode(), out.encode(), ctypes.byref(params)):
        sys.exit("llama_model_quantize failed")


lc.llama_log_set(quiet, ctypes.c_void_p(0))
lc.llama_backend_init()
if sys.argv[1] == "measure":
    measure(sys.argv[2], *map(int, sys.argv[3:7]))
else:
    q8_0(*sys.argv[2:4])
