# SPDX-License-Identifier: Apache-2.0
"""What the judges share: Tokamak's command as a black box, the two peers, and how a figure is reported.

A judge prints one line a figure and exits 1 if one misses its limit; run by tools/judge.py it also leaves the
figures in the file $TOKAMAK_JUDGE_OUT, one JSON object a line, for the table at the end."""
import atexit
import ctypes
import glob
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXTS = ROOT / "tests" / "data" / "texts"
THREADS = int(os.environ.get("TOKAMAK_JUDGE_THREADS", "2"))


class Report:
    def __init__(self, judge):
        self.judge, self.bad = judge, 0

    def figure(self, what, value, limit="", ok=True):
        """ok: does the value keep to the limit (a text for people)?"""
        self.bad += not ok
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        print(f"{'pass' if ok else 'FAIL'}  {self.judge}: {what}: {shown}{'  (' + limit + ')' if limit else ''}", flush=True)
        if out := os.environ.get("TOKAMAK_JUDGE_OUT"):
            with open(out, "a") as f:
                print(json.dumps({"judge": self.judge, "what": what, "value": shown, "limit": limit, "ok": bool(ok)}), file=f)

    def exit(self):
        sys.exit(self.bad > 0)


class Tokamak:
    """The command, as a user has it."""

    def __init__(self, build):
        self.command = str(pathlib.Path(build).resolve() / "bin" / "tokamak")

    def text(self, *words, **environment):
        run = subprocess.run([self.command, *map(str, words)], capture_output=True, text=True, env=os.environ | environment)
        if run.returncode:
            raise RuntimeError(f"tokamak {' '.join(map(str, words))[:200]}: exit {run.returncode}\n{run.stderr}")
        return run.stdout

    def json(self, *words):
        return json.loads(self.text(*words))

    def smollm2(self):
        """The path of the model that `pull smollm2` brings."""
        if path := os.environ.get("TOKAMAK_JUDGE_MODEL"):
            return path
        self.text("pull", "smollm2")
        return next(e["path"] for e in self.json("ls", "--json") if e["name"] == "smollm2")

    def logits(self, model, ids, *options, **environment):
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "l.npy")
            self.text("logits", model, "--tokens", ",".join(map(str, ids)), "-o", out, "--threads", THREADS,
                      "--ctx", max(len(ids), 64), *options, **environment)
            return np.load(out)


class Truth:
    """float32 logits of Hugging Face transformers on the dequantized weights of a GGUF file."""

    def __init__(self, path, device="cpu"):
        import torch
        import transformers
        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(THREADS)
        self.torch, self.device = torch, device
        folder, name = os.path.split(os.path.abspath(path))
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval().to(device)

    def logits(self, ids):
        with self.torch.inference_mode():
            return self.model(self.torch.tensor([ids], device=self.device)).logits[0].cpu().numpy()

    def round_inputs(self):
        """From now on what goes into a product is rounded to bfloat16 first."""
        for m in self.model.modules():
            if isinstance(m, self.torch.nn.Linear):
                m.register_forward_pre_hook(lambda _, x: (x[0].bfloat16().float(),))

    def greedy(self, ids, n):
        """ids and the n tokens that follow, by argmax alone."""
        ids, cache, new = list(ids), None, list(ids)
        with self.torch.inference_mode():
            for _ in range(n):
                out = self.model(self.torch.tensor([new], device=self.device), past_key_values=cache, use_cache=True)
                cache, new = out.past_key_values, [int(out.logits[0, -1].argmax())]
                ids += new
        return ids


class Peer:
    """llama.cpp, as llama-cpp-python ships it."""
    quiet = None  # the library keeps calling it after a peer is gone

    def __init__(self, path, n=512, flash=False, vocab_only=False, **more):
        import llama_cpp
        # the library's own log goes past Python to stderr
        Peer.quiet = Peer.quiet or llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(Peer.quiet, ctypes.c_void_p(0))
        self.n = n
        self.llama = llama_cpp.Llama(str(path), n_ctx=n, n_batch=n, n_ubatch=n, n_threads=THREADS, n_threads_batch=THREADS,
                                     logits_all=True, flash_attn=flash, vocab_only=vocab_only, verbose=False, **more)
        atexit.register(self.llama.close)

    def close(self):
        """Gives its memory back before the end."""
        self.llama.close()
        atexit.unregister(self.llama.close)

    def ids(self, text, special=False):
        return self.llama.tokenize(text, add_bos=False, special=special)

    def logits(self, ids):
        assert len(ids) <= self.n
        self.llama.reset()
        self.llama.eval(ids)
        return np.array(self.llama.scores[:len(ids)], np.float32)

    def begin(self):
        """The token that the model puts before a text, or -1."""
        import llama_cpp
        vocab = llama_cpp.llama_model_get_vocab(self.llama._model.model)
        return llama_cpp.llama_vocab_bos(vocab) if llama_cpp.llama_vocab_get_add_bos(vocab) else -1


def ggml_quantize(t, x):
    """The blocks of type t (of gguf's GGMLQuantizationType) that llama.cpp's own library makes of float32 rows."""
    import gguf
    import llama_cpp
    folder = os.path.join(os.path.dirname(llama_cpp.__file__), "lib")
    lib = ctypes.CDLL(sorted(glob.glob(os.path.join(folder, "libggml-base.so*")))[0])
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    block, size = gguf.GGML_QUANT_SIZES[t]
    x = np.ascontiguousarray(x, np.float32)
    out = np.zeros((x.shape[0], x.shape[1] // block * size), np.uint8)
    lib.ggml_quantize_chunk(int(t), x.ctypes.data, out.ctypes.data, 0, *x.shape, None)
    return out


def texts(peer, tokens=256):
    """(name, ids) of the committed texts: the first `tokens` ids of each, as the peer reads them."""
    out = []
    for path in sorted(TEXTS.glob("*.txt")):
        ids = peer.ids(path.read_bytes())[:tokens]
        assert len(ids) == tokens, f"{path} has {len(ids)} tokens only"
        out.append((path.stem, ids))
    return out


def log_softmax(x):
    x = x.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def perplexity(report, ours, model, peer, ctx, label="", most=1 << 30):
    """Of the first `most` bytes of the committed texts, over non-overlapping windows; a begin token first if the model adds one;
    all but the first token scored."""
    text = b"".join(p.read_bytes() for p in sorted(TEXTS.glob("*.txt")))[:most].decode(errors="ignore").encode()
    ids, begin = peer.ids(text), peer.begin()
    body, total, scored = ctx - (begin >= 0), 0.0, 0
    for at in range(0, len(ids), body):
        window = ([begin] if begin >= 0 else []) + ids[at:at + body]
        if len(window) > 1:
            scores = log_softmax(peer.logits(window)[:-1])
            total += scores[np.arange(len(window) - 1), window[1:]].sum()
            scored += len(window) - 1
    theirs = math.exp(-total / scored)
    with tempfile.NamedTemporaryFile(suffix=".txt") as f:
        f.write(text)
        f.flush()
        got = ours.json("eval", model, "-f", f.name, "--ctx", ctx, "--json")
    off = abs(got["perplexity"] / theirs - 1)
    report.figure(label + "tokens scored for perplexity", got["tokens"], f"llama.cpp {scored}", got["tokens"] == scored)
    report.figure(label + "perplexity", got["perplexity"], f"within 0.3 % of llama.cpp's {theirs:.4f}: {100 * off:.3f} %", off <= 0.003)


class Errors:
    """How far logits are from the truth, over many rows."""

    def __init__(self):
        self.kl, self.same, self.worst, self.square, self.truth_square, self.top = [], [], 0.0, 0.0, 0.0, 0.0

    def add(self, truth, ours):
        p, q = log_softmax(truth), log_softmax(ours)
        self.kl += list((np.exp(p) * (p - q)).sum(-1))
        best = truth.argmax(-1)
        self.same += list(best == ours.argmax(-1))
        d = (ours - ours.mean(-1, keepdims=True)) - (truth - truth.mean(-1, keepdims=True))
        self.worst = max(self.worst, float(np.abs(d).max()))
        self.top = max(self.top, float(np.abs(np.take_along_axis(d, np.argpartition(truth, -2, -1)[:, -2:], -1)).max()))
        self.square += float((d.astype(np.float64) ** 2).sum())
        self.truth_square += float((truth.astype(np.float64) ** 2).sum())

    def mean_kl(self):
        return float(np.mean(self.kl))

    def agree(self):
        return float(np.mean(self.same))

    def relative(self):
        """Root of the error's squares over the truth's."""
        return (self.square / self.truth_square) ** 0.5
