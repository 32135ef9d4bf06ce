# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/families_gguf: one very small random model of each family that llama.cpp's converter knows, as it writes it,
with transformers' logits: the truth of tests/test_models.c. What has more layers or variants is judge_families.py's.
Run: PYTHON tools/make_family_gguf.py [names]; needs torch and transformers (5.x) from PyPI and what family_gguf.py says."""
import pathlib
import shutil
import sys
import tempfile

import transformers

import family_gguf
from family_models import YARN, make

ONE = {"num_hidden_layers": 1}
HALF = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
SMALL = {  # name: what makes it smaller; two layers where they differ
    "llama": ONE,
    "gpt2": {"n_layer": 1},
    "mixtral": {**ONE, "intermediate_size": 24},
    "qwen2": ONE,
    "qwen2_moe": ONE,
    "qwen3": ONE,
    "qwen3_moe": ONE,
    "gemma": ONE,
    "gemma2": {"intermediate_size": 24},
    "gemma3": {"head_dim": 8, "query_pre_attn_scalar": 8, "intermediate_size": 16},
    "phi3-longrope": ONE,
    "phi4-mini": ONE,
    "smollm3": {"hidden_size": 16, "intermediate_size": 24},
    "granite": ONE,
    "olmo2": ONE,
    "starcoder2": ONE,
    "gpt_neox": {**ONE, "hidden_size": 32, "rope_parameters": HALF},
    "falcon-7b": ONE,
    "falcon-40b": ONE,
    "bloom": {"n_layer": 1},
    "gpt_oss": {"head_dim": 8, "num_local_experts": 3, "intermediate_size": 16, "rope_parameters": YARN},
    "gemma2-old": ONE,
    "gemma3-global": {**ONE, "layer_types": ["full_attention"], "head_dim": 8, "query_pre_attn_scalar": 8},
    "qwen2_moe-old": {**ONE, "hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1},
}

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
out = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "families_gguf"
for seed, (name, small) in enumerate(SMALL.items()):
    if sys.argv[1:] and name not in sys.argv[1:]:
        continue
    with tempfile.TemporaryDirectory() as folder:
        made = pathlib.Path(folder) / name
        error = make(made, name, 100 + seed, **{**family_gguf.GGUF[name], "vocab_size": 41, **small})
        (out / name).mkdir(parents=True, exist_ok=True)
        family_gguf.convert(made, out / name / "model.gguf", family_gguf.WITHOUT.get(name, ()), "MOSTLY_F16", fused=seed % 2)
        for file in ("tokens.json", "logits.npy"):
            shutil.copy(made / file, out / name / file)
    print(f"{name:20} {(out / name / 'model.gguf').stat().st_size} bytes, float32 against float64: {error:.2g}", flush=True)
