#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares Tokamak's tokenizers with Hugging Face's `tokenizers` (PyPI), string by string.

    pip install tokenizers gguf sentencepiece protobuf tiktoken
    python tools/judge_tokenizers.py [--lib build/lib/libtokamak.so] [--cli build/bin/tokamak] [--count 20000] [NAME...]

NAME: folders of $TOKAMAK_SHARED/tokenizers (tokenizer.json, plain or .xz), paths of tokenizer.json files, "zoo" (random tokenizers of every kind), "sentencepiece" (its models, randomly trained), "tiktoken" (random rank files), "gguf"
(the .inp/.out pairs of $TOKAMAK_SHARED/gguf_vocab) or "llama2c" (stories260k's tok512.bin against a port of llama2.c).
Each string is encoded with and without special parsing and begin/end tokens, decoded with and without special tokens,
and decoded token by token. With --cli the strings also go through `tokamak tokenize --jsonl`. Prints one line per tokenizer;
exits 1 on any difference.
"""
import argparse
import ctypes as C
import json
import lzma
import os
import random
import struct
import subprocess
import sys
import tempfile
import time

ADD, PARSE, SKIP, CONTINUE = 1, 2, 1, 2


class Ids(C.Structure):
    _fields_ = [("id", C.POINTER(C.c_int32)), ("n", C.c_size_t), ("cap", C.c_size_t)]


class Str(C.Structure):
    _fields_ = [("s", C.c_char_p), ("n", C.c_size_t)]


class Buf(C.Structure):
    _fields_ = [("data", C.POINTER(C.c_char)), ("len", C.c_size_t), ("cap", C.c_size_t), ("failed", C.c_bool)]


class Vocab(C.Structure):
    _fields_ = [("model", C.c_char_p), ("pre", C.c_char_p), ("n_tokens", C.c_size_t), ("n_merges", C.c_size_t),
                ("tokens", C.POINTER(Str)), ("scores", C.POINTER(C.c_float)), ("types", C.POINTER(C.c_int32)),
                ("merges", C.POINTER(Str)), ("bos", C.c_int32), ("eos", C.c_int32), ("eot", C.c_int32),
                ("unk", C.c_int32), ("pad", C.c_int32), ("add_bos", C.c_int8), ("add_eos", C.c_int8),
                ("add_space_prefix", C.c_int8), ("add_sep", C.c_int8), ("merge_spaces", C.c_int8), ("lowercase", C.c_int8),
                ("strip_accents", C.c_int8)] + [(n, C.c_int32) for n in "eom sep fim_pre fim_suf fim_mid fim_pad fim_rep fim_sep".split()] + [
                    ("charsmap", C.c_void_p), ("n_charsmap", C.c_size_t), ("name", C.c_char_p), ("arch", C.c_char_p)]


class Tokamak:
    lib = None

    def __init__(self, make):
        self.t = C.c_void_p()
        self.check(make(C.byref(self.t)))

    def free(self):
        self.lib.tk_tokenizer_free(self.t)

    def check(self, status):
        if status:
            raise RuntimeError(self.lib.tk_error().decode("utf-8", "replace"))

    @classmethod
    def load(cls, path):
        cls.lib = C.CDLL(path)
        cls.lib.tk_error.restype = C.c_char_p

    @classmethod
    def from_json(cls, text):
        return cls(lambda out: cls.lib.tk_tokenizer_from_json(out, Str(text, len(text)), None))

    @classmethod
    def from_sentencepiece(cls, data):
        return cls(lambda out: cls.lib.tk_tokenizer_from_sentencepiece(out, data, C.c_size_t(len(data))))

    @classmethod
    def from_path(cls, path):
        return cls(lambda out: cls.lib.tk_tokenizer_open(out, path.encode()))

    @classmethod
    def from_tokbin(cls, data):
        return cls(lambda out: cls.lib.tk_tokenizer_from_tokbin(out, data, C.c_size_t(len(data)), C.c_size_t(0)))

    @classmethod
    def from_gguf(cls, path):
        import gguf
        r = gguf.GGUFReader(path)

        def get(key, default=None):
            f = r.fields.get("tokenizer.ggml." + key)
            return default if f is None else f.contents()

        def strs(xs):
            xs = [x.encode() for x in xs]
            return (Str * max(len(xs), 1))(*[Str(x, len(x)) for x in xs])

        def ident(key):
            return get(key + "_token_id", -1)

        def flag(key):
            v = get(key)
            return -1 if v is None else int(v)

        tokens, merges, scores, types = get("tokens"), get("merges", []), get("scores"), get("token_type")
        pre = get("pre")
        v = Vocab(get("model").encode(), pre and pre.encode(), len(tokens), len(merges), strs(tokens),
                  scores and (C.c_float * len(scores))(*scores), types and (C.c_int32 * len(types))(*types), strs(merges),
                  ident("bos"), ident("eos"), ident("eot"), ident("unknown"), ident("padding"),
                  flag("add_bos_token"), flag("add_eos_token"), flag("add_space_prefix"), *[-1] * 12)
        return cls(lambda out: cls.lib.tk_tokenizer_from_vocab(out, C.byref(v)))

    def encode(self, data, flags):
        ids = Ids()
        self.check(self.lib.tk_encode(self.t, data, C.c_size_t(len(data)), flags, C.byref(ids)))
        out = ids.id[:ids.n]
        self.lib.tk_ids_free(C.byref(ids))
        return out

    def count(self, data):
        """How many ids: encoding without a Python list."""
        ids = Ids()
        self.check(self.lib.tk_encode(self.t, data, C.c_size_t(len(data)), PARSE, C.byref(ids)))
        self.lib.tk_ids_free(C.byref(ids))
        return ids.n

    def text(self, buf):
        out = C.string_at(buf.data, buf.len) if buf.len else b""
        self.lib.tk_buf_free(C.byref(buf))
        return out.decode()

    def decode(self, ids, flags):
        buf = Buf()
        self.check(self.lib.tk_decode(self.t, (C.c_int32 * len(ids))(*ids), C.c_size_t(len(ids)), flags, C.byref(buf)))
        return self.text(buf)

    def stream(self, ids, flags):
        """The pieces of a streaming detokenizer, each of them checked to be valid UTF-8 by text()."""
        d, out = C.c_void_p(), []
        self.check(self.lib.tk_detok_new(C.byref(d), self.t, flags))
        for i in ids + [None]:
            buf = Buf()
            if i is None:
                self.check(self.lib.tk_detok_flush(d, C.byref(buf)))
            else:
                self.check(self.lib.tk_detok_push(d, i, C.byref(buf)))
            out.append(self.text(buf))
        self.lib.tk_detok_free(d)
        return out


# ---- strings -------------------------------------------------------------------------------------------------------

WORDS = """the of and don't I'LL it's we'Re they'VE 'S 'ſ 'ſa O'D isn't 1 12 123 1234 12345678 3.14 1,000,000 x=y; foo_bar
    camelCase CONSTANT http://a.b/c?d=e#f <p> </s> <s> <unk> <|endoftext|> <|im_end|> <|im_start|>system <|eot_id|> <|begin_of_text|>
    <|start_header_id|>user<|end_header_id|> <0x0A> ▁ ▁▁ ▁the Ġthe Ċ naïve café Straße ǅ ß ſt ﬁ ½ ² ³⁴ Ⅷ ① ٣٤٥ १२३ 漢字 かな カナ 한국어
    العربية עברית हिन्दी ไทย မြန်မာ Ελληνικά русский 👍 👩‍👩‍👧 🏳️‍🌈 🇩🇪 e\u0301 a\u0327\u0301 \u0301 \u200d \u200c \u00ad
    \ufeff \u2028 \u3000 \u00a0 \u1680 \u180e \x00 \x01 \x7f \x85 \ufffd \U0010ffff \ue000 \U000e0001 \u0378 \U0002ebf0
    \U00010d40 \U00011de0 \u1c89 𝔘𝔫𝔦 Å ｱ ㌀ 힣 한""".split(" ")
SPACES = [" ", "  ", "   ", "    ", "\n", "\n\n", "\r\n", "\t", " \n", "\n ", " \n ", "\r", "\t\t", "\u00a0", "\u3000", "\u2003 ",
          " " * 17, "\n" * 9, ""]


def some_string(rng, special):
    kind = rng.randrange(10)
    n = rng.choice([0, 1, 2, 3, 5, 8, 13, 30, 80])
    if kind < 4:
        s = "".join(rng.choice(WORDS + special) + rng.choice(SPACES) for _ in range(n))
    elif kind == 4:
        s = "".join(chr(rng.choice([rng.randrange(0x20, 0x7f), rng.randrange(0x80), rng.randrange(0x250)])) for _ in range(n * 3))
    elif kind == 5:
        s = "".join(c for c in (chr(rng.randrange(0x110000)) for _ in range(n)) if not "\ud800" <= c <= "\udfff")
    elif kind == 6:
        s = rng.choice(["a", " ", "\n", "'", "0", "é", "漢", "!", " a", "ab", "\r\n", "\u0301", "👍"]) * rng.randrange(1, 400)
    elif kind == 7:
        s = "".join(rng.choice("'sStTrReEvVmMlLdDſ 19\n\r\t.!-_a") for _ in range(n * 2))
    elif kind == 8:
        return bytes(rng.choice([rng.randrange(256), rng.randrange(0x80, 0x100), 0x20, 0x65]) for _ in range(n * 2))
    else:
        s = "".join(rng.choice([rng.choice(special) if special else "", rng.choice(WORDS), rng.choice(SPACES)]) for _ in range(n))
        b = s.encode()
        cut = rng.randrange(len(b) + 1)
        return b[:cut] + bytes([rng.randrange(256)]) + b[cut + rng.randrange(3):]
    return s.encode()


def ascii_only(s):
    return s.encode("unicode_escape").decode()


# ---- judges ----------------------------------------------------------------------------------------------------------

class Report:
    def __init__(self, name):
        self.name, self.checks, self.bad = name, 0, 0

    def same(self, ours, theirs, what):
        self.checks += 1
        if ours == theirs:
            return
        self.bad += 1
        if self.bad <= 5:
            print(f"{self.name}: differs on {what}\n  ours   {ours}\n  theirs {theirs}", file=sys.stderr)

    def done(self, seconds):
        print(f"{self.name}: {self.checks} comparisons, {self.bad} differences, {seconds:.0f} s")
        return self.bad


def read(path):
    return lzma.open(path).read() if path.endswith(".xz") else open(path, "rb").read()


def run_cli(args, model, strings, flags):
    """The ids of `tokamak tokenize MODEL --jsonl`, one list a string."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as f:
        f.writelines(json.dumps(s) + "\n" for s in strings)
        f.flush()
        options = [o for bit, o in ((ADD, "--no-special"), (PARSE, "--parse-special")) if bool(flags & bit) == (bit == PARSE)]
        out = subprocess.run([args.cli, "tokenize", model, "--jsonl", f.name] + options, check=True, capture_output=True)
    return [json.loads(line) for line in out.stdout.splitlines()]


def judge_cli(name, text, args):
    import tokenizers
    start, rng, r = time.time(), random.Random(args.seed), Report(name + " (command)")
    hf = tokenizers.Tokenizer.from_str(text.decode())
    special = [t["content"] for t in json.loads(text)["added_tokens"]][:40]
    strings = [some_string(rng, special).decode("utf-8", "replace") for _ in range(args.count)]
    with tempfile.TemporaryDirectory() as folder:
        open(os.path.join(folder, "tokenizer.json"), "wb").write(text)
        for flags in range(4):
            ours = run_cli(args, folder, strings, flags)
            hf.encode_special_tokens = not flags & PARSE
            r.same(len(ours), len(strings), "number of lines")
            for s, ids in zip(strings, ours):
                r.same(ids, hf.encode(s, add_special_tokens=bool(flags & ADD)).ids, f"flags={flags} {ascii_only(s)}")
    return r.done(time.time() - start)


def judge_json(name, path, args):
    import tokenizers
    text, start, rng, r = read(path), time.time(), random.Random(args.seed), Report(name)
    hf, tk = tokenizers.Tokenizer.from_str(text.decode()), Tokamak.from_json(text)
    special = [t["content"] for t in json.loads(text)["added_tokens"]]
    special = special[:40] + rng.sample(special, min(20, len(special)))
    size = hf.get_vocab_size()
    for _ in range(args.count):
        b = some_string(rng, special)
        s = b.decode("utf-8", "replace")
        for parse in (True, False):
            hf.encode_special_tokens = not parse
            for add in (True, False):
                ids = tk.encode(b, ADD * add + PARSE * parse)
                r.same(ids, hf.encode(s, add_special_tokens=add).ids, f"encode parse={parse} add={add} {b!r}")
        if rng.randrange(2):
            ids = [rng.randrange(size) for _ in range(rng.randrange(20))]
        for skip in (True, False):
            want = hf.decode(ids, skip_special_tokens=skip)
            r.same(tk.decode(ids, SKIP * skip), want, f"decode skip={skip} {ids}")
            r.same("".join(tk.stream(ids, SKIP * skip)), want, f"stream skip={skip} {ids}")
    bad = r.done(time.time() - start)
    return bad + (judge_cli(name, text, args) if args.cli else 0)


def both(ours, theirs):
    """What the two sides give; None for theirs if the library fails on it (it panics on some)."""
    try:
        want = theirs()
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt):
            raise
        return None, None
    try:
        return ours(), want
    except RuntimeError as e:
        return str(e), want


def judge_zoo(args):
    """Random tokenizers of every kind, a few dozen strings each."""
    import tokenizer_zoo
    import tokenizers
    start, rng, r, failed = time.time(), random.Random(args.seed), Report("zoo"), 0
    quiet = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the library's panics
    sys.stderr = os.fdopen(quiet, "w")
    for _ in range(max(args.count // 40, 1)):
        text = tokenizer_zoo.make(rng)
        hf = tokenizers.Tokenizer.from_str(text)
        try:
            tk = Tokamak.from_json(text.encode())
        except RuntimeError as e:
            r.same(str(e), "", f"opening {text}")
            continue
        special = [t["content"] for t in json.loads(text)["added_tokens"]]
        size, bad = hf.get_vocab_size(), r.bad
        for _ in range(40):
            b = some_string(rng, special)
            s = b.decode("utf-8", "replace")
            for flags in range(4):
                hf.encode_special_tokens = not flags & PARSE
                ours, want = both(lambda: tk.encode(b, flags), lambda: hf.encode(s, add_special_tokens=bool(flags & ADD)).ids)
                r.same(ours, want, f"encode flags={flags} {b!r}")
                failed += want is None
            ids = want if want and rng.randrange(2) else [rng.randrange(size) for _ in range(rng.randrange(1, 20))]
            for skip in (True, False):
                ours, want = both(lambda: tk.decode(ids, SKIP * skip), lambda: hf.decode(ids, skip_special_tokens=skip))
                failed += want is None
                r.same(ours, want, f"decode skip={skip} {ids}")
                if want is not None:
                    r.same("".join(tk.stream(ids, SKIP * skip)), want, f"stream skip={skip} {ids}")
        if r.bad > bad:
            path = os.path.join(tempfile.gettempdir(), f"zoo-{r.bad}.json")
            open(path, "w").write(text)
            print(f"zoo: that was {path}", file=sys.stderr)
        tk.free()
    print(f"zoo: the library failed {failed} times", file=sys.stderr)
    return r.done(time.time() - start)


def sentencepiece_model(rng):
    """A small model by the package's trainer, options at random; sometimes a few pieces are marked unused afterwards."""
    import io
    import sentencepiece
    import tokenizer_zoo
    from sentencepiece import sentencepiece_model_pb2
    maybe = lambda p=0.5: rng.random() < p
    out, kind = io.BytesIO(), rng.choice(["unigram", "unigram", "bpe", "bpe", "char"])
    more = {"vocab_size": rng.choice([200, 300, 450])} if kind != "char" else {"vocab_size": 120}
    fallback = kind != "char" and maybe()
    if fallback:
        more["vocab_size"] += 256
    lines = tokenizer_zoo.TEXT * 3
    user = [u for u in ["<mask>", "ab", "the", "▁▁", "\n", "e f", "😀"] if maybe(0.3)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, minloglevel=9, hard_vocab_limit=False, model_type=kind, byte_fallback=fallback,
        normalization_rule_name=rng.choice(["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity"]), add_dummy_prefix=maybe(0.7),
        remove_extra_whitespaces=maybe(), treat_whitespace_as_suffix=maybe(0.2), user_defined_symbols=user,
        control_symbols=[c for c in ["<ctl>", "[INST]"] if maybe(0.3)], split_digits=maybe(), max_sentencepiece_length=rng.choice([4, 16]), **more)
    if maybe(0.3) and kind != "char":
        m = sentencepiece_model_pb2.ModelProto.FromString(out.getvalue())
        for p in m.pieces:
            if p.type == 1 and len(p.piece) > 1 and maybe(0.2):
                p.type = 5
        return m.SerializeToString()
    return out.getvalue()


def judge_sentencepiece(args):
    import sentencepiece
    start, rng, r = time.time(), random.Random(args.seed), Report("sentencepiece")
    for _ in range(max(args.count // 400, 1)):
        data = sentencepiece_model(rng)
        sp, tk, bad = sentencepiece.SentencePieceProcessor(model_proto=data), Tokamak.from_sentencepiece(data), r.bad
        for _ in range(400):
            s = some_string(rng, ["<s>", "<ctl>", "<mask>", "ab", "e f"]).decode("utf-8", "replace").replace("\0", "")
            ids = tk.encode(s.encode(), 0)
            r.same(ids, sp.encode(s), f"encode {s!a}")
            if rng.randrange(2):
                ids = [rng.randrange(sp.vocab_size()) for _ in range(rng.randrange(1, 20))]
            want = sp.decode(ids)
            r.same(tk.decode(ids, 0), want, f"decode {ids}")
            r.same("".join(tk.stream(ids, 0)), want, f"stream {ids}")
        if r.bad > bad:
            path = os.path.join(tempfile.gettempdir(), f"judge-{r.bad}.model")
            open(path, "wb").write(data)
            print(f"sentencepiece: that was {path}", file=sys.stderr)
        tk.free()
    return r.done(time.time() - start)


def judge_tiktoken(args):
    """Random rank files under the names of real ones; o200k's and cl100k's patterns are the package's own."""
    import base64
    import tiktoken
    import tokenizer_zoo
    from tiktoken_ext import openai_public
    start, rng, r = time.time(), random.Random(args.seed), Report("tiktoken")
    pats = {}
    for name in ("r50k_base", "cl100k_base", "o200k_base"):
        real, openai_public.load_tiktoken_bpe = openai_public.load_tiktoken_bpe, lambda *a, **k: {}
        pats[name] = getattr(openai_public, name)()["pat_str"]
        openai_public.load_tiktoken_bpe = real
    text = "\n".join(tokenizer_zoo.TEXT).encode()
    with tempfile.TemporaryDirectory() as folder:
        for name, pat in pats.items():
            ranks = {bytes([b]): i for i, b in enumerate(rng.sample(range(256), 256))}
            while len(ranks) < 900:
                at = rng.randrange(len(text))
                t = text[at:at + rng.randrange(2, 7)]
                ranks.setdefault(t, len(ranks))
            path = os.path.join(folder, name + ".tiktoken")
            with open(path, "wb") as f:
                f.writelines(base64.b64encode(t) + b" %d\n" % i for t, i in ranks.items())
            enc, tk = tiktoken.Encoding(name, pat_str=pat, mergeable_ranks=ranks, special_tokens={}), Tokamak.from_path(path)
            for _ in range(args.count // 10):
                s = some_string(rng, []).decode("utf-8", "replace")
                ids = tk.encode(s.encode(), 0)
                r.same(ids, enc.encode_ordinary(s), f"{name} encode {s!a}")
                ids = [rng.randrange(len(ranks)) for _ in range(rng.randrange(1, 20))]
                r.same(tk.decode(ids, 0), enc.decode(ids), f"{name} decode {ids}")
            tk.free()
    return r.done(time.time() - start)


def judge_gguf(shared, args):
    bad = 0
    for name in ("gpt-2", "llama-spm", "starcoder", "falcon"):
        start, r = time.time(), Report("gguf " + name)
        base = os.path.join(shared, "gguf_vocab", name + ".gguf")
        tk = Tokamak.from_gguf(base)
        texts = open(base + ".inp", "rb").read().decode().split("\n__ggml_vocab_test__\n")
        wants = open(base + ".out").read().splitlines()
        for s, want in zip(texts, wants):
            r.same(tk.encode(s.encode(), 0), [int(x) for x in want.split()], ascii_only(s))
        for ids, want in zip(run_cli(args, base, texts, 0) if args.cli else [], wants):
            r.same(ids, [int(x) for x in want.split()], "command")
        r.same(len(texts) >= len(wants) > 40, True, "number of texts")
        bad += r.done(time.time() - start)
    return bad


class Llama2c:
    """llama2.c's encode and decode, as its run.c defines them."""

    def __init__(self, data):
        at, self.piece, self.score = 4, [], []
        while at < len(data):
            score, n = struct.unpack_from("<fi", data, at)
            self.piece.append(data[at + 8:at + 8 + n])
            self.score.append(score)
            at += 8 + n
        self.id = {p: i for i, p in enumerate(self.piece)}

    def encode(self, text):
        ids = [1]
        if text:
            ids.append(self.id[b" "])
        for ch in text.decode():
            b = ch.encode()
            ids += [self.id[b]] if b in self.id else [x + 3 for x in b]
        while True:
            best = None
            for i in range(len(ids) - 1):
                j = self.id.get(self.piece[ids[i]] + self.piece[ids[i + 1]])
                if j is not None and (best is None or self.score[j] > best[0]):
                    best = (self.score[j], i, j)
            if best is None:
                return ids
            ids[best[1]:best[1] + 2] = [best[2]]

    def decode(self, ids):
        out, prev = b"", 1
        for i in ids:
            p = self.piece[i]
            if prev == 1 and p.startswith(b" "):
                p = p[1:]
            if len(p) == 6 and p.startswith(b"<0x"):
                p = bytes([int(p[3:5], 16)])
            out, prev = out + p, i
        return out


def judge_llama2c(shared, args):
    data = read(os.path.join(shared, "models", "stories260k", "tok512.bin"))
    start, rng, r = time.time(), random.Random(args.seed), Report("llama2c tok512")
    want, tk = Llama2c(data), Tokamak.from_tokbin(data)
    for _ in range(args.count // 4):
        s = some_string(rng, [])[:300].decode("utf-8", "replace")
        ids = tk.encode(s.encode(), ADD)
        r.same(ids, want.encode(s.encode()), ascii_only(s))
        if "<0x" not in s:
            r.same(tk.decode(ids[1:], 0), s, "round trip " + ascii_only(s))
        ids = [rng.randrange(3, 512) for _ in range(rng.randrange(20))]
        try:
            text = want.decode(ids).decode()
        except UnicodeDecodeError:
            continue
        r.same(tk.decode(ids, 0), text, f"decode {ids}")
    return r.done(time.time() - start)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("names", nargs="*", default=["gemma2", "gpt2", "llama3_2", "mistral_7b", "qwen2_5", "zoo", "sentencepiece", "tiktoken", "gguf", "llama2c"])
    p.add_argument("--lib", default="build/lib/libtokamak.so")
    p.add_argument("--cli", help="also judge this tokamak command")
    p.add_argument("--count", type=int, default=20000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--shared", default=os.environ.get("TOKAMAK_SHARED", "../shared"))
    args = p.parse_args()
    Tokamak.load(os.path.abspath(args.lib))
    bad = 0
    for name in args.names:
        if name == "zoo":
            bad += judge_zoo(args)
        elif name == "sentencepiece":
            bad += judge_sentencepiece(args)
        elif name == "tiktoken":
            bad += judge_tiktoken(args)
        elif name == "gguf":
            bad += judge_gguf(args.shared, args)
        elif name == "llama2c":
            bad += judge_llama2c(args.shared, args)
        else:
            path = name
            for end in ("", ".xz"):
                inside = os.path.join(args.shared, "tokenizers", name, "tokenizer.json" + end)
                path = inside if os.path.exists(inside) else path
            bad += judge_json(name, path, args)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
