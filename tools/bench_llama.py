# SPDX-License-Identifier: Apache-2.0
"""One measurement of llama.cpp (PyPI's llama-cpp-python) for tools/bench_peer.py: tokens a second of a prompt in one batch and
of tokens fed one by one to each of SEQS sequences, behind DEPTH others. After a short run of each to warm up, the better of
REPEAT. Also makes the Q8_0 file. A process of its own a measurement, as Tokamak's `bench` is, so that neither inherits the
other's threads and caches.

    PYTHON tools/bench_llama.py measure MODEL THREADS FLASH PROMPT DECODE DEPTH SEQS REPEAT -> {"prefill_tok_s": .., "decode_tok_s": ..}
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


def batch_of(tokens):
    """A batch of (id, position, sequence), with logits for the last token of each sequence in it."""
    b = lc.llama_batch_init(len(tokens), 0, 1)
    b.n_tokens = len(tokens)
    last = {seq: i for i, (_, _, seq) in enumerate(tokens)}
    for i, (token, position, seq) in enumerate(tokens):
        b.token[i], b.pos[i], b.n_seq_id[i], b.logits[i] = token, position, 1, last[seq] == i
        b.seq_id[i][0] = seq
    return b


def measure(path, threads, flash, prompt, decode, depth, seqs, repeat):
    params = lc.llama_context_default_params()
    chunk = max(prompt, 512)
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = seqs * (depth + max(prompt, decode) + 64), chunk, chunk, seqs
    params.n_threads = params.n_threads_batch = threads
    if hasattr(params, "flash_attn_type"):
        params.flash_attn_type = int(flash)
    else:
        params.flash_attn = bool(flash)
    model = lc.llama_model_load_from_file(path.encode(), lc.llama_model_default_params())
    ctx = lc.llama_init_from_model(model, params)
    memory, vocab = lc.llama_get_memory(ctx), lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(model))
    rng = random.Random(1)
    ids = [rng.randrange(vocab) for _ in range(max(prompt, decode + seqs, depth))]

    def run(batches):
        for b in batches:
            if lc.llama_decode(ctx, b):
                sys.exit("llama_decode failed")
            lc.llama_get_logits(ctx)  # waits for the result

    def once(batches):
        start = time.perf_counter()
        run(batches)
        seconds = time.perf_counter() - start
        for seq in range(seqs):
            lc.llama_memory_seq_rm(memory, seq, depth, -1)
        return seconds

    for seq in range(seqs):
        for at in range(0, depth, chunk):
            run([batch_of([(ids[i], i, seq) for i in range(at, min(at + chunk, depth))])])
    whole = [batch_of([(t, depth + i, 0) for i, t in enumerate(ids[:prompt])])] if prompt else []
    ones = [batch_of([(ids[i + seq], depth + i, seq) for seq in range(seqs)]) for i in range(decode)]
    rates = {}
    for name, batches, warm, n in (("prefill_tok_s", whole, [batch_of([(t, depth + i, 0) for i, t in enumerate(ids[:32])])], prompt),
                                   ("decode_tok_s", ones, ones[:4], decode * seqs)):
        if batches:
            once(warm)
            rates[name] = n / min(once(batches) for _ in range(repeat))
    print(json.dumps(rates))


def q8_0(path, out):
    params = lc.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = lc.LLAMA_FTYPE_MOSTLY_Q8_0, True
    if lc.llama_model_quantize(path.encode(), out.encode(), ctypes.byref(params)):
        sys.exit("llama_model_quantize failed")


lc.llama_log_set(quiet, ctypes.c_void_p(0))
lc.llama_backend_init()
if sys.argv[1] == "measure":
    measure(sys.argv[2], *map(int, sys.argv[3:10]))
else:
    q8_0(*sys.argv[2:4])
