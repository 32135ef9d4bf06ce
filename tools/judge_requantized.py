# SPDX-License-Identifier: Apache-2.0
"""Judge of the weight types on a real model: SmolLM2, requantized by llama.cpp's own llama_model_quantize into every type
that its rows of 576 can hold. The perplexity of each file must be within 0.3 % of what llama.cpp gets from it.
Run: PYTHON tools/judge_requantized.py [--build build] [--types Q5_0,MXFP4] [--bytes 8000]"""
import argparse
import ctypes
import os
import tempfile

from judge_common import THREADS, Peer, Report, Tokamak, perplexity

# llama.cpp's file types by number; "pure": all matrices get the type
FILE_TYPES = {"F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q4_0": 2, "Q4_1": 3, "IQ4_NL": 25, "MXFP4": 38}
CTX = 512


def requantize(source, target, file_type, pure=True):
    import llama_cpp
    p = llama_cpp.llama_model_quantize_default_params()
    p.nthread, p.ftype, p.pure, p.allow_requantize = THREADS, file_type, pure, True
    if llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(p)):
        raise RuntimeError(f"llama_model_quantize failed for file type {file_type}")


def types_in(path):
    from gguf import GGUFReader
    return {t.tensor_type.name for t in GGUFReader(path).tensors if len(t.shape) > 1}


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--build", default="build")
    args.add_argument("--types", default=",".join(FILE_TYPES))
    args.add_argument("--bytes", type=int, default=1 << 30, help="how much of the texts is read")
    args = args.parse_args()
    ours, report = Tokamak(args.build), Report("requantized")
    model = ours.smollm2()
    with tempfile.TemporaryDirectory() as folder:
        for name in args.types.split(","):
            path = os.path.join(folder, name + ".gguf")
            requantize(model, path, FILE_TYPES[name])
            kinds = types_in(path)
            report.figure(f"{name}: types of its matrices", " ".join(sorted(kinds)), name, name in kinds)
            peer = Peer(path, CTX)
            perplexity(report, ours, path, peer, CTX, name + ": ", args.bytes)
            peer.close()
            os.unlink(path)
    report.exit()


if __name__ == "__main__":
    main()
