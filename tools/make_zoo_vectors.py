#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/tokenizers/zoo.json and the .model and .tiktoken files beside it: random tokenizers that together use
every stage and option (tools/tokenizer_zoo.py), small SentencePiece models and a rank file, each with what the library it
belongs to makes of hostile strings. Also keeps a few as seeds of the fuzz targets.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3 tiktoken==0.14.0 protobuf
    python tools/make_zoo_vectors.py
"""
import base64
import io
import json
import os
import random
import sys
import tempfile

sys.path.insert(0, os.path.dirname(__file__))
import tokenizer_zoo  # noqa: E402

OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "data", "tokenizers")
CORPUS = os.path.join(os.path.dirname(__file__), "..", "tests", "corpus")
STRINGS = ["", " ", "  the  truth ", "It is a truth universally acknowledged, don't", "e\u0301 é \u0301\u0327a \u200d\u200c", "İſ ß ǅ ÅΣ", "漢字カナ 한국어 ไทย العربية हिन्दी",
           "\t\n\r\n\u00a0\u3000\u2028x\x00\x01\x7f\x85", "👩‍👩‍👧🏳️‍🌈🇩🇪 ①½ﬁⅧ", "<s>Norm</s> [MASK]the fam<|end|> famil  x a b ▁▁<unk>", " \n\n <s> \n\n É  \n\n", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
           "1234567 8,9.0 a_b-c/d \"q\" (z)!", "\ufffd\ue000\U000e0001\u0378\u0600a\r\nthethe the"]


def features(j):
    out = set()

    def walk(x, path):
        if isinstance(x, dict):
            t = x.get("type", path)
            out.add(path + ":" + str(t))
            for k, v in x.items():
                if k in ("vocab", "merges", "special_tokens", "precompiled_charsmap", "sep", "cls", "single", "pair", "id"):
                    continue
                if isinstance(v, (bool, str, int, type(None))):
                    out.add(f"{t}.{k}={v}")
                walk(v, str(t) + "." + k)
        elif isinstance(x, list):
            for v in x:
                walk(v, path)
    walk(j, "")
    return out


def cases(text, rng):
    from tokenizers import Tokenizer
    t, rows = Tokenizer.from_str(text), []
    for s in STRINGS:
        try:
            row = [s]
            for flags in range(4):
                t.encode_special_tokens = not flags & 2
                row.append(t.encode(s, add_special_tokens=bool(flags & 1)).ids)
            ids = row[3] if rng.random() < 0.5 else [rng.randrange(t.get_vocab_size()) for _ in range(rng.randrange(1, 12))]
            rows.append(row + [ids, t.decode(ids, skip_special_tokens=False), t.decode(ids, skip_special_tokens=True)])
        except BaseException as e:  # it panics on a few
            if isinstance(e, KeyboardInterrupt):
                raise
    return rows


def zoo(rng):
    some = [tokenizer_zoo.make(rng) for _ in range(700)]
    some = sorted((s for s in some if len(s) < 12000), key=len)
    have, kept = {}, []
    for _ in range(46):
        score = lambda s: (sum(1 / (1 + have.get(f, 0)) ** 3 for f in found[s]) / (len(s) + 1500), s)
        found = {s: features(json.loads(s)) for s in some} if not kept else found
        best = max(some, key=score)
        kept.append(best)
        some.remove(best)
        for f in found[best]:
            have[f] = have.get(f, 0) + 1
    return kept


def sentencepiece_models():
    import sentencepiece
    rules = "\n".join(f"{' '.join(f'{ord(c):X}' for c in a)}\t{' '.join(f'{ord(c):X}' for c in b)}" for a, b in
                      [("ﬁ", "fi"), ("\u3000", " "), ("\t", " "), ("\n", " "), ("①", "1"), ("A", "a"), ("e\u0301", "é"), ("\u200b", "")]) + "\n"
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as tsv:
        tsv.write(rules)
        tsv.flush()
        base = dict(minloglevel=9, hard_vocab_limit=False)
        own = dict(normalization_rule_tsv=tsv.name)
        plain = dict(normalization_rule_name="identity")
        for name, kw in {
                "sp-unigram": dict(own, model_type="unigram", vocab_size=200, user_defined_symbols=["<mask>", "▁▁", "ab"]),
                "sp-bpe": dict(plain, model_type="bpe", vocab_size=420, byte_fallback=True, remove_extra_whitespaces=False, control_symbols=["[INST]"]),
                "sp-unused": dict(plain, model_type="bpe", vocab_size=200, user_defined_symbols=["the", "\n"], add_dummy_prefix=False),
                "sp-suffix": dict(own, model_type="unigram", vocab_size=420, byte_fallback=True, treat_whitespace_as_suffix=True),
                "sp-char": dict(plain, model_type="char", vocab_size=100)}.items():
            out = io.BytesIO()
            sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(tokenizer_zoo.TEXT * 3), model_writer=out, **base, **kw)
            data = out.getvalue()
            from sentencepiece import sentencepiece_model_pb2
            m = sentencepiece_model_pb2.ModelProto.FromString(data)
            for i, p in enumerate(m.pieces):
                if name == "sp-unused" and p.type == 1 and len(p.piece) > 1 and i % 5 == 0:
                    p.type = 5
            m.normalizer_spec.normalization_rule_tsv = ""
            m.trainer_spec.ClearField("input")
            yield name, m.SerializeToString()


def main():
    import sentencepiece
    import tiktoken
    rng = random.Random(11)
    quiet = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.stderr = os.fdopen(quiet, "w")
    rows = []
    for i, text in enumerate(zoo(rng)):
        rows.append('{"json":' + text + ',\n"cases":' + json.dumps(cases(text, rng), ensure_ascii=True, separators=(",", ":")) + "}")
        if i % 6 == 0:
            open(os.path.join(CORPUS, "tokenizer_json", f"zoo{i}"), "w").write(text)
    for name, data in sentencepiece_models():
        open(os.path.join(OUT, name + ".model"), "wb").write(data)
        os.makedirs(os.path.join(CORPUS, "sentencepiece"), exist_ok=True)
        open(os.path.join(CORPUS, "sentencepiece", name), "wb").write(data)
        sp, some = sentencepiece.SentencePieceProcessor(model_proto=data), []
        for s in (s.replace("\0", "") for s in STRINGS):
            ids = [rng.randrange(sp.vocab_size()) for _ in range(8)]
            some.append([s, sp.encode(s), ids, sp.decode(ids)])
        rows.append(json.dumps({"file": name + ".model", "cases": some}, ensure_ascii=True, separators=(",", ":")))
    pat = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    ranks, text = {bytes([b]): i for i, b in enumerate(rng.sample(range(256), 256))}, "\n".join(tokenizer_zoo.TEXT).encode()
    while len(ranks) < 420:
        at = rng.randrange(len(text))
        ranks.setdefault(text[at:at + rng.randrange(2, 7)], len(ranks))
    with open(os.path.join(OUT, "small_r50k.tiktoken"), "wb") as f:
        f.writelines(base64.b64encode(t) + b" %d\n" % i for t, i in ranks.items())
    enc, some = tiktoken.Encoding("x", pat_str=pat, mergeable_ranks=ranks, special_tokens={}), []
    for s in STRINGS:
        ids = [rng.randrange(len(ranks)) for _ in range(8)]
        some.append([s, enc.encode_ordinary(s), ids, enc.decode(ids)])
    rows.append(json.dumps({"file": "small_r50k.tiktoken", "cases": some}, ensure_ascii=True, separators=(",", ":")))
    open(os.path.join(OUT, "zoo.json"), "w").write("[\n" + ",\n".join(rows) + "\n]\n")


main()
