#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Vectors for tests/test_oracle.c: tiny random GPT-2 and LLaMA models of Hugging Face transformers in float64,
their logits, mean cross entropy and all gradients, for two sequences of different length.

    pip install torch transformers && tools/make_oracle_vectors.py

tests/data/oracle/NAME.bin: little-endian float64: the numbers of every slot in oracle_slot order (weights), the
same for gradients, logits of both sequences, loss. Hugging Face's rope computes cos and sin in float32, hence
the test's tolerance."""
import pathlib
import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/data/oracle"
SEQUENCES = [[3, 1, 4, 1, 5, 9], [2, 6, 5]]  # targets: the next token; -1 after the last
V, E, G, R, D, F, LAYERS, CTX = 11, 8, 2, 2, 4, 10, 2, 6


def randomize(model):
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64) * 0.4 + (p.dim() == 1) * 0.5)


def write(name, model, slots):
    model.eval()
    randomize(model)
    total, count, logits = 0, 0, []
    for seq in SEQUENCES:
        out = model(torch.tensor([seq])).logits[0]
        logits.append(out.detach().numpy())
        total = total + torch.nn.functional.cross_entropy(out[:-1], torch.tensor(seq[1:]), reduction="sum")
        count += len(seq) - 1
    loss = total / count
    loss.backward()
    parts = [slot(lambda p: p.detach()) for slot in slots] + [slot(lambda p: p.grad) for slot in slots] + logits
    parts.append(np.array([loss.item()]))
    data = np.concatenate([np.asarray(p, dtype="<f8").ravel() for p in parts])
    data.tofile(OUT / f"{name}.bin")
    print(name, data.size * 8, "bytes, loss", loss.item())


def llama():
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=V, hidden_size=E, intermediate_size=F, num_hidden_layers=LAYERS, num_attention_heads=G * R,
        num_key_value_heads=G, head_dim=D, rms_norm_eps=1e-5, tie_word_embeddings=False, attention_bias=False,
        max_position_embeddings=CTX, attn_implementation="eager", rope_theta=10000.0)).double()
    m = model.model
    slots = [lambda f: f(m.embed_tokens.weight), lambda f: f(m.norm.weight), lambda f: f(model.lm_head.weight)]
    for l in m.layers:
        for w in (l.input_layernorm, l.self_attn.q_proj, l.self_attn.k_proj, l.self_attn.v_proj, l.self_attn.o_proj,
                  l.post_attention_layernorm, l.mlp.gate_proj, l.mlp.up_proj, l.mlp.down_proj):
            slots.append(lambda f, w=w: f(w.weight))
    write("llama", model, slots)


def gpt2():
    model = GPT2LMHeadModel(GPT2Config(
        vocab_size=V, n_positions=CTX, n_embd=E, n_layer=LAYERS, n_head=2, n_inner=F, layer_norm_epsilon=1e-5,
        activation_function="gelu_new", attn_implementation="eager")).double()
    m = model.transformer
    slots = [lambda f: f(m.wte.weight), lambda f: f(m.wpe.weight), lambda f: f(m.ln_f.weight), lambda f: f(m.ln_f.bias)]
    for b in m.h:
        slots += [lambda f, b=b: f(b.ln_1.weight), lambda f, b=b: f(b.ln_1.bias)]
        for i in range(3):  # Conv1D holds [in, out]
            slots.append(lambda f, b=b, i=i: f(b.attn.c_attn.weight)[:, i * E:(i + 1) * E].T)
            slots.append(lambda f, b=b, i=i: f(b.attn.c_attn.bias)[i * E:(i + 1) * E])
        slots += [lambda f, b=b: f(b.attn.c_proj.weight).T, lambda f, b=b: f(b.attn.c_proj.bias),
                  lambda f, b=b: f(b.ln_2.weight), lambda f, b=b: f(b.ln_2.bias)]
        for w in (b.mlp.c_fc, b.mlp.c_proj):
            slots += [lambda f, w=w: f(w.weight).T, lambda f, w=w: f(w.bias)]
    write("gpt2", model, slots)


OUT.mkdir(parents=True, exist_ok=True)
llama()
gpt2()
