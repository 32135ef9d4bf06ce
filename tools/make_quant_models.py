# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/quant: one tiny LLaMA (and gpt_oss) in each quantized form of Hugging Face checkpoints, with the logits that
transformers gives for the dequantized float32 weights: the truth of tests/test_models.c. The integers are drawn at random and packed
as the formats' own tools pack them (compressed-tensors by its library where it is installed).
Run: PYTHON tools/make_quant_models.py; needs torch and transformers (5.x) from PyPI."""
import json
import pathlib
import shutil
import sys

import numpy as np
import torch
import transformers as T
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "quant"
SHAPE = dict(vocab_size=96, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=64, bos_token_id=1, eos_token_id=2, tie_word_embeddings=True)
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def words(values, bits, axis):
    """Little-endian streams of `bits`-wide numbers in int32 words along `axis`."""
    v = np.moveaxis(values.astype(np.uint64), axis, 0)
    n = v.shape[0] * bits // 32
    out = np.zeros((n + 1,) + v.shape[1:], np.uint64)
    for i in range(v.shape[0]):
        word, shift = divmod(i * bits, 32)
        both = v[i] << np.uint64(shift)
        out[word] |= both & np.uint64(0xFFFFFFFF)
        out[word + 1] |= both >> np.uint64(32)
    return torch.from_numpy(np.moveaxis(out[:n], 0, axis).astype(np.uint32).view(np.int32).copy())


def e4m3(x):
    return torch.from_numpy(np.ascontiguousarray(x)).to(torch.float8_e4m3fn)


class Maker:
    def __init__(self, seed, **options):
        self.g = np.random.default_rng(seed)
        self.o = options

    def scale(self, shape, size):
        s = (self.g.uniform(0.5, 1.5, shape) * size).astype(np.float16)
        return torch.from_numpy(s).to(self.o.get("scale", torch.float16))

    def gptq(self, base, n, k):
        bits, group = self.o["bits"], self.o["group"]
        groups = k // group
        q = self.g.integers(0, 1 << bits, (k, n))
        zero = np.full((groups, n), 1 << (bits - 1)) if self.o["sym"] else self.g.integers(1, 1 << bits, (groups, n))
        scale = self.scale((groups, n), 2.5 / (1 << bits) / k ** 0.5)
        index = np.arange(k) // group
        if self.o.get("act_order"):
            index = self.g.permutation(index)
        stored = zero - 1 if self.o.get("v1") else zero
        w = (q - zero[index]) * scale.double().numpy()[index]
        return w.T, {base + "qweight": words(q, bits, 0), base + "qzeros": words(stored, bits, 1), base + "scales": scale,
                     base + "g_idx": torch.from_numpy(index.astype(np.int32))}

    def awq(self, base, n, k):
        group = self.o["group"]
        q, zero = self.g.integers(0, 16, (k, n)), self.g.integers(0, 16, (k // group, n))
        scale = self.scale((k // group, n), 0.16 / k ** 0.5)
        index = np.arange(k) // group
        w = (q - zero[index]) * scale.double().numpy()[index]
        pack = lambda v: words(v.reshape(v.shape[0], -1, 8)[:, :, AWQ_ORDER].reshape(v.shape), 4, 1)
        return w.T, {base + "qweight": pack(q), base + "qzeros": pack(zero), base + "scales": scale}

    def packed(self, base, n, k):
        bits, group = self.o["bits"], self.o["group"]
        half = 1 << (bits - 1)
        q = self.g.integers(-half, half, (n, k))
        scale = self.scale((n, k // group), 2.5 / (1 << bits) / k ** 0.5)
        zero = np.zeros((n, k // group), int) if self.o["sym"] else self.g.integers(-half, half, (n, k // group))
        index = np.arange(k) // group
        w = (q - zero[:, index]) * scale.double().numpy()[:, index]
        t = {base + "weight_packed": words(q + half, bits, 1), base + "weight_scale": scale, base + "weight_shape": torch.tensor([n, k])}
        if not self.o["sym"]:
            t[base + "weight_zero_point"] = words(zero + half, bits, 0)
        return w, t

    def int8(self, base, n, k):
        q, scale = self.g.integers(-128, 128, (n, k)), self.scale((n, 1), 0.01 / k ** 0.5)
        return q * scale.double().numpy(), {base + "weight": torch.from_numpy(q.astype(np.int8)), base + "weight_scale": scale}

    def fp8(self, base, n, k):
        q = e4m3(self.g.standard_normal((n, k)) * 100)
        if self.o["how"] == "block":
            scale = torch.from_numpy(self.g.uniform(0.5, 1.5, (-(-n // 128), -(-k // 128))).astype(np.float32) * 0.01 / k ** 0.5)
            full = scale.double().repeat_interleave(128, 0)[:n].repeat_interleave(128, 1)[:, :k]
        else:
            shape = (n, 1) if self.o["how"] == "channel" else (1,)
            scale = torch.from_numpy(self.g.uniform(0.5, 1.5, shape).astype(np.float32) * 0.01 / k ** 0.5)
            full = scale.double()
        name = "weight_scale_inv" if self.o["how"] == "block" else "weight_scale"
        return (q.double() * full).numpy(), {base + "weight": q, base + name: scale}


CT = {"quant_method": "compressed-tensors"}
def groups(**weights):
    return {"config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}, "ignore": ["lm_head"]}


MODELS = {
    "gptq-v1": ("gptq", dict(bits=4, group=32, sym=True, v1=True), {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "desc_act": False}),
    "gptq-v2-act": ("gptq", dict(bits=4, group=32, sym=False, act_order=True),
                    {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": False, "desc_act": True, "checkpoint_format": "gptq_v2"}),
    "gptq-3bit": ("gptq", dict(bits=3, group=64, sym=False, v1=True), {"quant_method": "gptq", "bits": 3, "group_size": 64, "sym": False, "desc_act": False}),
    "gptq-8bit": ("gptq", dict(bits=8, group=64, sym=True, v1=True), {"quant_method": "gptq", "bits": 8, "group_size": 64, "sym": True, "desc_act": False}),
    "awq": ("awq", dict(group=32), {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}),
    "ct-int4": ("packed", dict(bits=4, group=32, sym=True), {**CT, "format": "pack-quantized", **groups(num_bits=4, type="int", symmetric=True, group_size=32, strategy="group")}),
    "ct-int4-zero": ("packed", dict(bits=4, group=64, sym=False, scale=torch.bfloat16),
                     {**CT, "format": "pack-quantized", **groups(num_bits=4, type="int", symmetric=False, group_size=64, strategy="group")}),
    "ct-int8": ("int8", dict(), {**CT, "format": "int-quantized", **groups(num_bits=8, type="int", symmetric=True, strategy="channel")}),
    "ct-fp8": ("fp8", dict(how="channel"), {**CT, "format": "float-quantized", **groups(num_bits=8, type="float", symmetric=True, strategy="channel")}),
    "fp8-tensor": ("fp8", dict(how="tensor"), {**CT, "format": "float-quantized", **groups(num_bits=8, type="float", symmetric=True, strategy="tensor")}),
    "fp8-block": ("fp8", dict(how="block"), {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}),
}


def finish(name, model, tensors, quantization):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ids = torch.randint(3, 96, (1, 20), generator=torch.Generator().manual_seed(len(name)))
    with torch.no_grad():
        logits = model.double()(ids).logits[0].float().numpy()
    config = model.config.to_dict()
    config["quantization_config"] = quantization
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    np.save(folder / "logits.npy", logits)
    (folder / "tokens.json").write_text(json.dumps(ids[0].tolist()))
    print(f"{name:14} |logits| <= {np.abs(logits).max():.3g}")


def make(name, seed):
    how, options, quantization = MODELS[name]
    config = T.LlamaConfig(**SHAPE)
    config._attn_implementation = "eager"
    model, tensors, maker = T.LlamaForCausalLM(config).eval(), {}, Maker(seed, **options)
    g = torch.Generator().manual_seed(seed)
    for key, p in list(model.named_parameters()):
        if "proj" in key:
            w, parts = getattr(maker, how)(key[:-len("weight")], *p.shape)
            p.data = torch.from_numpy(np.ascontiguousarray(w)).float()
            tensors.update(parts)
        else:
            r = torch.randn(p.shape, generator=g)
            p.data = ((r * 0.2 + 1) if "norm" in key else r * 0.6).half().float()
            tensors[key] = p.data.half()
    finish(name, model, tensors, quantization)


def make_mxfp4(seed):
    config = T.GptOssConfig(**{**SHAPE, "tie_word_embeddings": False, "head_dim": 16, "hidden_size": 64, "intermediate_size": 32, "num_local_experts": 4, "num_experts_per_tok": 2,
                               "sliding_window": 6, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}})
    config._attn_implementation = config._experts_implementation = "eager"
    model, tensors = T.GptOssForCausalLM(config).eval(), {}
    g, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    code = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
    for key, p in list(model.named_parameters()):
        if key.endswith("gate_up_proj") or key.endswith("down_proj"):  # [experts, in, out] in memory, [experts, out, in] in blocks
            e, k, n = p.shape
            q, exponent = rng.integers(0, 16, (e, n, k)), rng.integers(121, 124, (e, n, k // 32))
            w = code[q] * np.repeat(2.0 ** (exponent - 127.0), 32, 2)
            p.data = torch.from_numpy(w).float().transpose(1, 2).contiguous()
            tensors[key + "_blocks"] = torch.from_numpy((q[..., ::2] | q[..., 1::2] << 4).astype(np.uint8).reshape(e, n, k // 32, 16))
            tensors[key + "_scales"] = torch.from_numpy(exponent.astype(np.uint8))
        else:
            r = torch.randn(p.shape, generator=g)
            p.data = ((r * 0.2 + 1) if "norm" in key else r * (0.6 if "emb" in key else 0.2)).half().float()
            tensors[key] = p.data.half()
    finish("mxfp4", model, tensors, {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]})


T.utils.logging.disable_progress_bar()
for seed, name in enumerate(MODELS):
    make(name, seed)
make_mxfp4(99)
