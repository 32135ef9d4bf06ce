#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""All judges: Tokamak against independent programs from PyPI. Prints a table of their figures; exits 1 if one fails.

    python3 tools/judge.py [--build build] [NAME...]        (`make judge`)

The peers go into a virtual environment below the build folder (or $TOKAMAK_JUDGE_VENV, used as it is when it has them):
torch and transformers take several GB, llama-cpp-python is compiled for this machine by clang-22 where there is one (gcc 12
compiles its AMX code wrongly). `make check` needs none of that, for each judge has a small twin there:

    judge                truth                                twin in `make check`
    models               transformers, tiny random models     tests/test_models.c on tests/data/hf (the same vectors)
    families             transformers, llama.cpp              tests/test_models.c on tests/data/families and families_gguf
    stories              llama2.c's own greedy text           tests/test_oracle.c, tests/test_modelfile.c on llama2c-v0.bin
    SmolLM2              transformers and llama.cpp           tests/test_quantized.c, tests/test_linear.c
    formats              transformers on gguf-py's weights    tests/test_quantized.c, tests/test_formats.c, tests/test_modelfile.c
    vocabulary           llama.cpp on SmolLM2's vocabulary    tests/test_tokenizer.c (smollm.cases.json, gguf_special_tokens)
    tokenizers           HF tokenizers                        tests/test_tokenizer.c on tests/data/tokenizers
    patterns             HF tokenizers                        tests/test_tokenizer_zoo.c on split.json
    templates            jinja2                               tests/test_template.c on committed cases
    random templates     jinja2                               tests/test_template.c on random.json
    hub                  huggingface_hub                      tests/test_hub.c, tests/cli_models.sh
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEERS = ["torch", "transformers", "gguf", "tokenizers", "safetensors", "jinja2", "huggingface_hub", "numpy"]
IMPORTS = "import torch, transformers, gguf, tokenizers, jinja2, huggingface_hub"
# name: its words after the interpreter; {build} is the build folder. One whose file is not there fails.
JUDGES = {
    "models": ["tools/judge_models.py", "--build", "{build}"],
    "families": ["tools/judge_families.py", "--build", "{build}"],
    "stories": ["tools/judge_stories.py", "--build", "{build}"],
    "SmolLM2": ["tools/judge_smollm2.py", "--build", "{build}"],
    "requantized": ["tools/judge_requantized.py", "--build", "{build}"],
    "formats": ["tools/judge_formats.py", "--build", "{build}"],
    "quantizers": ["tools/judge_quantizers.py", "--build", "{build}"],
    "vocabulary": ["tools/judge_vocab.py", "--build", "{build}"],
    "tokenizers": ["tools/judge_tokenizers.py", "--lib", "{build}/lib/libtokamak.so", "--cli", "{build}/bin/tokamak", "gpt2", "llama3_2", "zoo"],
    "patterns": ["tools/judge_regex.py", "--lib", "{build}/lib/libtokamak.so"],
    "templates": ["tools/judge_templates.py", "--lib", "{build}/lib/libtokamak.so"],
    "random templates": ["tools/fuzz_templates.py", "--lib", "{build}/lib/libtokamak.so"],
    "hub": ["tools/judge_hub.py", "{build}/bin/tokamak"],
}


def has(python, imports):
    return python.exists() and subprocess.run([python, "-c", imports], capture_output=True).returncode == 0


def peer_environment():
    """Of llama.cpp's build: for this very machine, by the newest compiler that its kernels are correct with."""
    env = dict(os.environ, CMAKE_ARGS="-DGGML_NATIVE=ON -DCMAKE_BUILD_TYPE=Release")
    env.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count()))
    if shutil.which("clang-22"):
        env.update(CC="clang-22", CXX="clang++-22")
    else:
        print("no clang-22: llama.cpp is built by the default compiler; its speed may be too low and, with AMX, its results wrong", file=sys.stderr)
    return env


def set_up(venv):
    """Installs what is missing; returns the interpreter."""
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    if not has(python, IMPORTS):
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS], check=True)
    if not has(python, "import llama_cpp"):
        subprocess.run([python, "-m", "pip", "install", "--no-binary", "llama-cpp-python", "llama-cpp-python"], check=True, env=peer_environment())
    return python


def table(rows):
    widths = [max(len(r[i]) for r in rows) for i in range(3)]
    for r in rows:
        print("  ".join([*(c.ljust(w) for c, w in zip(r, widths)), *r[3:]]).rstrip())


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--build", default="build")
    args.add_argument("--set-up", action="store_true", help="only install the peers")
    args.add_argument("names", nargs="*", metavar="NAME", help=" ".join(JUDGES))
    args = args.parse_args()
    if unknown := set(args.names) - set(JUDGES):
        sys.exit(f"no judge is called {', '.join(unknown)}\nthere are: {' '.join(JUDGES)}")
    os.chdir(ROOT)
    build = pathlib.Path(args.build)
    python = set_up(pathlib.Path(os.environ.get("TOKAMAK_JUDGE_VENV", build / ".venv-judge")).absolute())
    if args.set_up:
        return
    rows, bad = [("RESULT", "JUDGE", "FIGURE", "VALUE (LIMIT)")], 0
    with tempfile.TemporaryDirectory() as folder:
        for name in args.names or JUDGES:
            out = os.path.join(folder, name)
            print(f"---- {name}", flush=True)
            words = [w.format(build=build) for w in JUDGES[name]]
            failed = subprocess.run([python, *words], env=dict(os.environ, TOKAMAK_JUDGE_OUT=out)).returncode != 0
            bad += failed
            figures = [json.loads(line) for line in open(out)] if os.path.exists(out) else []
            for f in figures:
                rows.append(("pass" if f["ok"] else "FAIL", name, f["what"], f"{f['value']}{' (' + f['limit'] + ')' if f['limit'] else ''}"))
            if not figures or failed and all(f["ok"] for f in figures):  # it reports by its exit code, or died
                rows.append(("FAIL" if failed else "pass", name, "the whole judge", ""))
    print()
    table(rows)
    print(f"\n{bad} of {len(args.names or JUDGES)} judges failed" if bad else "\nall judges pass")
    sys.exit(bad > 0)


main()
