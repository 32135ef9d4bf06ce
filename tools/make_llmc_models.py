#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/models/llmc-*.bin: the weights of tests/data/hf/gpt2-plain in the layout of llm.c's checkpoints
(train_gpt2.py's write_model), and gpt2_tokenizer.bin with cases of how GPT-2's tokenizer would split, by
Hugging Face's library. Needs numpy, safetensors, tokenizers. Run: python3 tools/make_llmc_models.py"""
import json
import os
import struct

import numpy as np
import tokenizers
from safetensors.numpy import load_file

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TO = os.path.join(HERE, "tests", "data", "models")
PADDED = 128


def bf16(x):
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def model(version, write):
    w = {k.removeprefix("transformer."): v for k, v in load_file(os.path.join(HERE, "tests/data/hf/gpt2-plain/model.safetensors")).items()}
    layers, vocab, width, context, heads = 2, *w["wte.weight"].shape, w["wpe.weight"].shape[0], 4
    each = lambda name, transposed=False: [w[f"h.{i}.{name}"].T if transposed else w[f"h.{i}.{name}"] for i in range(layers)]
    wte = np.concatenate([w["wte.weight"], np.full((PADDED - vocab, width), 7, np.float32)])
    parts = [wte, w["wpe.weight"], *each("ln_1.weight"), *each("ln_1.bias"), *each("attn.c_attn.weight", True), *each("attn.c_attn.bias"),
             *each("attn.c_proj.weight", True), *each("attn.c_proj.bias"), *each("ln_2.weight"), *each("ln_2.bias"), *each("mlp.c_fc.weight", True),
             *each("mlp.c_fc.bias"), *each("mlp.c_proj.weight", True), *each("mlp.c_proj.bias"), w["ln_f.weight"], w["ln_f.bias"]]
    header = np.zeros(256, np.int32)
    header[:8] = 20240326, version, context, vocab, layers, heads, width, PADDED
    with open(os.path.join(TO, f"llmc-v{version}.bin"), "wb") as f:
        f.write(header.tobytes() + b"".join(np.ascontiguousarray(write(p)).tobytes() for p in parts))


def tokenizer():
    """a GPT-2-like vocabulary trained on a page of this repository: letters, merges in learning order, the end token"""
    t = tokenizers.Tokenizer(tokenizers.models.BPE())
    t.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    t.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=400, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    text = open(os.path.join(HERE, "docs", "SAMPLING.md")).read()
    t.train_from_iterator([text], trainer)
    end = t.get_vocab_size()
    t.add_special_tokens(["<|endoftext|>"])
    alphabet = {c: b for c, b in zip(byte_letters(), range(256))}
    pieces = [bytes(alphabet[c] for c in t.id_to_token(i)) for i in range(end)] + [b"<|endoftext|>"]
    header = np.zeros(256, np.uint32)
    header[:4] = 20240328, 2, len(pieces), end
    with open(os.path.join(TO, "gpt2_tokenizer.bin"), "wb") as f:
        f.write(header.tobytes() + b"".join(struct.pack("B", len(p)) + p for p in pieces))
    cases = [text[i * 97 : i * 97 + 60] for i in range(30)] + ["", " ", "  the  thing\n\n", "Grüße, 你好 👋", "don't I'LL 123 4567", "x" * 40, "token tokens ofthe"]
    with open(os.path.join(TO, "gpt2_tokenizer.cases.json"), "w") as f:
        json.dump([[c, t.encode(c).ids] for c in cases], f, ensure_ascii=False, separators=(",", ":"))


def byte_letters():
    """GPT-2's alphabet: the letter of each byte"""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(other)) for b in range(256)]


model(3, lambda x: x.astype(np.float32))
model(5, bf16)
tokenizer()
