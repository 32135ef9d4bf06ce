# SPDX-License-Identifier: Apache-2.0
"""Models of family_models.py as GGUF files, by llama.cpp's own converter. Used by make_family_gguf.py (committed files) and
judge_families.py (fresh ones).

The converter is that of the release of llama.cpp inside llama-cpp-python's source archive, for no package installs it:
$TOKAMAK_JUDGE_LLAMA_CPP names an unpacked one, else pip fetches the archive into the cache folder below the interpreter."""
import functools
import importlib.metadata
import json
import logging
import os
import pathlib
import subprocess
import sys
import tarfile

from safetensors.torch import load_file, save_file

# What GGUF (or llama.cpp's converter) has no key for is set to what its readers take for granted. Rows that are not here differ from
# another row by such options only, or (opt) have no GGUF form.
GGUF = {
    "llama": {},
    "gpt2": {},
    "mistral": {"sliding_window": None},
    "mistral-full": {},
    "mixtral": {},
    "qwen2": {"use_sliding_window": False, "sliding_window": None},
    "qwen2-tied": {},
    "qwen2_moe": {"mlp_only_layers": []},
    "qwen2_moe-old": {},
    "qwen3": {},
    "qwen3-bias": {},
    "qwen3_moe": {},
    "gemma": {},
    "gemma2": {"query_pre_attn_scalar": 12},
    "gemma2-old": {"query_pre_attn_scalar": 12},
    "gemma3": {"query_pre_attn_scalar": 12},
    "gemma3-global": {"query_pre_attn_scalar": 12},
    "phi3": {"sliding_window": None},
    "phi3-longrope": {},
    "phi4-mini": {},
    "smollm3": {},
    "granite": {},
    "granite-tied": {},
    "olmo2": {},
    "starcoder2": {"sliding_window": None},
    "gpt_neox": {},
    "gpt_neox-serial": {},
    "falcon-7b": {},
    "falcon-40b": {"bias": False},
    "falcon-11b": {"ffn_hidden_size": 128},
    "bloom": {},
    "bloom-heads": {},
    "gpt_oss": {},
}

# Keys that files are without: made by the first converters, or where they say that there is no window
WITHOUT = {
    "gemma2-old": ["gemma2.attn_logit_softcapping", "gemma2.final_logit_softcapping"],
    "gemma3-global": ["gemma3.attention.sliding_window"],
    "qwen2_moe-old": ["qwen2moe.expert_feed_forward_length", "qwen2moe.expert_shared_feed_forward_length"],
}


def sources():
    """The folder with llama.cpp's conversion package and gguf-py."""
    if path := os.environ.get("TOKAMAK_JUDGE_LLAMA_CPP"):
        return pathlib.Path(path)
    cache = pathlib.Path(sys.prefix) / "llama_cpp_source"
    if not list(cache.glob("*/vendor/llama.cpp/conversion")):
        cache.mkdir(exist_ok=True)
        package = f"llama-cpp-python=={importlib.metadata.version('llama-cpp-python')}"
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", cache, package],
                       check=True)
        with tarfile.open(next(cache.glob("*.tar.gz"))) as archive:  # Debian 12's Python has no filters yet
            archive.extractall(cache, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return next(cache.glob("*/vendor/llama.cpp/conversion")).parent


@functools.cache
def converter():
    root = sources()
    sys.path[:0] = [str(root), str(root / "gguf-py")]
    logging.disable(logging.WARNING)
    os.environ["TQDM_DISABLE"] = "1"
    import conversion
    return conversion


def dummy_vocabulary(model, without):
    """In place of set_vocab, for the tiny models have no tokenizer; the last to write keys. Nothing can be encoded by it."""
    n = model.hparams["vocab_size"]
    w = model.gguf_writer
    for key in without:
        del w.kv_data[0][key]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("default")
    w.add_token_list([f"t{i}" for i in range(n)])
    w.add_token_types([1] * n)
    w.add_token_merges(["t 1"])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)


def complete(folder):
    """What the converter asks of the folder and transformers 5 does not write; and its weights in float32, for the converter adds 1 to
    gemma's norms in the type that they have."""
    for file in pathlib.Path(folder).glob("*.safetensors"):
        save_file({name: t.float() for name, t in load_file(file).items()}, file, {"format": "pt"})
    path = pathlib.Path(folder) / "config.json"
    config = json.loads(path.read_text())
    if config["model_type"] == "phi3":
        config["rope_parameters"].setdefault("original_max_position_embeddings", config["original_max_position_embeddings"])
    if config["model_type"] == "falcon" and config["multi_query"] and not config["new_decoder_architecture"]:
        config["num_kv_heads"] = 1
    path.write_text(json.dumps(config))
    if config["model_type"] == "gemma3_text":  # the converter counts the tokens there
        vocab = {f"t{i}": i for i in range(config["vocab_size"])}
        (path.parent / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}, "added_tokens": []}))


def convert(folder, out, without=(), kind="ALL_F32", fused=False):
    """Writes the GGUF file `out` of a folder that family_models.make wrote, with matrices of float32 (or MOSTLY_F16),
    less the keys in `without`. fused: q, k and v
    in one tensor, experts' gate and up as well, where the converter can."""
    complete(folder)
    c = converter()
    import gguf
    import torch
    hparams = c.ModelBase.load_hparams(pathlib.Path(folder), False)
    cls = c.get_model_class(c.get_model_architecture(hparams, c.ModelType.TEXT))
    with torch.inference_mode():
        model = cls(pathlib.Path(folder), getattr(gguf.LlamaFileType, kind), pathlib.Path(out), model_name="tiny", fuse_qkv=fused,
                    fuse_gate_up_exps=fused and gguf.MODEL_TENSOR.FFN_GATE_UP_EXP in gguf.MODEL_TENSORS[cls.model_arch])
        if cls.__name__ == "GPTNeoXModel":
            model.hparams["rotary_pct"] = model.rope_parameters.get("partial_rotary_factor", 0.25)
        model.set_vocab = lambda: dummy_vocabulary(model, without)
        model.write()
