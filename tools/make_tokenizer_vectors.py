#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/tokenizers: small tokenizers in the shapes of the real ones, and what Hugging Face's `tokenizers`
makes of a list of strings with them.

    pip install tokenizers==0.23.3
    python tools/make_tokenizer_vectors.py

NAME.json is a tokenizer.json. NAME.cases.json is a list of [hex of the text's bytes, ids for flags 0, 1, 2, 3
(1: begin/end tokens, 2: special tokens parsed), decoded ids, text, text without special tokens].
"""
import json
import os
import random

from tokenizers import Tokenizer, decoders, models, trainers
from tokenizers import normalizers as N
from tokenizers import pre_tokenizers as P

OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "data", "tokenizers")
TEXT = """It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.
However little known the feelings or views of such a man may be on his first entering a neighbourhood, this truth is so well
fixed in the minds of the surrounding families, that he is considered the rightful property of some one or other of their
daughters. "My dear Mr. Bennet," said his lady to him one day, "have you heard that Netherfield Park is let at last?" Mr. Bennet
replied that he had not. "But it is," returned she; "for Mrs. Long has just been here, and she told me all about it."
for (int i = 0; i < 10; i++) { printf("%d\\n", i * 2048); }  don't we'll I'm they've it's you'd you're 1984 2024 12345678
naïve café Straße übung Ångström ελληνικά русский язык 漢字 かな 한국어 👍🏽 — “quoted” … ½ x² 日本語の文章です。 中文句子。"""
LLAMA3 = ("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
          "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
STRINGS = [
    "", " ", "a", "Hello world", " Hello  World ", "The truth is\n\n so well  fixed", "don't DON'T we'Re 'ſa I'LLx 'sx ''s", "a'", "'",
    "12345678 1 12 123 1234", "x=y; foo_bar(1,2)\r\n\r\n\tend", "   \n  \n x", "a\n b\r\nc \n", "\t\ttabs \u00a0nbsp\u3000wide\u2028",
    "naïve café e\u0301 a\u0327\u0301 Å ﬁ ½ ² Ⅷ ٣٤٥", "漢字かなカナ 한국어 日本語", "👍 👩‍👩‍👧 🏳️‍🌈 \U000e0001", "\x00\x01\x7f\x85\ufffd\ufeff",
    "<s>user text</s> <unk> <|end|>", "<|begin|>hi<|end|><|end|> there", "  <|trim|>  x", "[word] a[word] [word]b [word]", "▁▁a ▁ b▁", "Ġthe Ċ",
    "<0x41><0x0A>", "zzzzqqqq ŧŧ ℵ", "a" * 90, " " * 33 + "x", "!" * 40, "\u1c89\U00010d40\U00011de0\u0378", "Norm norm NORM xNormy",
    "family families property rightful", b"\xff\xfeab\xc3", b"\xe2\x82 \xf0\x9f\x91", b"\xed\xa0\x80\xc0\xaf", b"a\x80b\xf4\x90\x80\x80",
]


def train(vocab_size, normalizer=None, pre=None, special=(), alphabet=(), **kw):
    t = Tokenizer(models.BPE(**kw))
    if normalizer:
        t.normalizer = normalizer
    if pre:
        t.pre_tokenizer = pre
    t.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(special), show_progress=False,
                                                      initial_alphabet=list(alphabet)))
    return json.loads(t.to_str())


def added(j, content, **kw):
    used = list(j["model"]["vocab"].values()) + [a["id"] for a in j["added_tokens"]]
    a = dict(id=j["model"]["vocab"].get(content, max(used) + 1), content=content, single_word=False, lstrip=False, rstrip=False,
             normalized=False, special=True)
    a.update(kw)
    j["added_tokens"].append(a)
    return a["id"]


def template(before=(), after=()):
    tokens = dict(before) | dict(after)

    def row(n):
        return {"SpecialToken": {"id": n, "type_id": 0}}
    return {"type": "TemplateProcessing",
            "single": [row(n) for n, _ in before] + [{"Sequence": {"id": "A", "type_id": 0}}] + [row(n) for n, _ in after],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {n: {"id": n, "ids": [i], "tokens": [n]} for n, i in tokens.items()}}


def byte_level(pre, **kw):
    j = train(420, pre=pre, alphabet=P.ByteLevel.alphabet(), **kw)
    j["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return j


def gpt2():
    j = byte_level(P.ByteLevel(add_prefix_space=False))
    j["model"]["merges"] = [" ".join(m) for m in j["model"]["merges"]]
    added(j, "<|end|>")
    added(j, "<|trim|>", lstrip=True, rstrip=True)
    added(j, "[word]", single_word=True, special=False)
    added(j, "Norm", normalized=True, special=False)
    added(j, "fam", special=False)
    j["post_processor"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    return j


def llama3():
    from tokenizers import Regex
    j = byte_level(P.Sequence([P.Split(Regex(LLAMA3), "isolated"), P.ByteLevel(add_prefix_space=False, use_regex=False)]))
    j["model"]["ignore_merges"] = True
    vocab = j["model"]["vocab"]
    vocab["Ġrightful"] = len(vocab)  # no merges lead here
    vocab["property"] = len(vocab)
    begin, end = added(j, "<|begin|>"), added(j, "<|end|>")
    j["post_processor"] = {"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        template([("<|begin|>", begin)], [("<|end|>", end)])]}
    return j


def smollm():
    j = byte_level(P.Sequence([P.Digits(individual_digits=True), P.ByteLevel(add_prefix_space=True)]))
    added(j, "<|begin|>")
    added(j, "<|end|>", special=False)
    return j


def qwen2():
    from tokenizers import Regex
    j = byte_level(P.Sequence([P.Split(Regex(QWEN2), "isolated"), P.ByteLevel(add_prefix_space=False, use_regex=False)]),
                   normalizer=N.NFC())
    added(j, "<|begin|>")
    added(j, "Norm", normalized=True, special=False, rstrip=True)
    return j


def llama2():
    norm = N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")])
    j = train(460, normalizer=norm, pre=P.Split(" ", "merged_with_next"), special=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)],
              unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    j["pre_tokenizer"] = None
    j["added_tokens"] = [a for a in j["added_tokens"] if a["id"] < 3]
    added(j, "Norm", normalized=True, special=False)
    added(j, "<|end|>", rstrip=True)
    j["post_processor"] = template([("<s>", 1)], [("</s>", 2)])
    j["decoder"] = json.loads(decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                                 decoders.Strip(" ", 1, 0)]).__getstate__())
    return j


def odd(fuse, behavior, decoder):
    """Nothing like a real one: unknown tokens, an unusual pattern, no byte fallback."""
    from tokenizers import Regex
    pre = P.Sequence([P.Split(" ", behavior), P.Split(Regex("[\\w&&[^aeiou]]+|\\p{Lu}"), behavior, invert=fuse), P.Digits()])
    j = train(120, normalizer=N.Sequence([N.NFKD(), N.Replace(Regex("[xyz]{2,}"), "z")]), pre=pre, special=["<unk>"],
              unk_token="<unk>", fuse_unk=fuse)
    j["model"]["vocab"] = {k: v for k, v in j["model"]["vocab"].items() if len(k) > 1 or ord(k) < 0x300}
    j["model"]["merges"] = [m for m in j["model"]["merges"] if all(x in j["model"]["vocab"] for x in m)]
    added(j, "<|end|>")
    j["decoder"] = decoder
    return j


def main():
    made = {"gpt2": gpt2(), "llama3": llama3(), "smollm": smollm(), "qwen2": qwen2(), "llama2": llama2(),
            "odd1": odd(True, "merged_with_previous", None),
            "odd2": odd(False, "contiguous", {"type": "Strip", "content": "e", "start": 1, "stop": 1}),
            "odd3": odd(False, "removed", {"type": "Fuse"}),
            "odd4": odd(True, "merged_with_next", {"type": "Replace", "pattern": {"String": "th"}, "content": "þ"})}
    os.makedirs(OUT, exist_ok=True)
    rng = random.Random(5)
    for name, j in made.items():
        text = json.dumps(j, ensure_ascii=False, separators=(",", ":"))
        t, rows = Tokenizer.from_str(text), []
        for s in STRINGS:
            b = s if isinstance(s, bytes) else s.encode()
            s, row = b.decode("utf-8", "replace"), [b.hex()]
            for flags in range(4):
                t.encode_special_tokens = not flags & 2
                row.append(t.encode(s, add_special_tokens=bool(flags & 1)).ids)
            ids = row[-1] if rng.random() < 0.5 else [rng.randrange(t.get_vocab_size()) for _ in range(rng.randrange(1, 16))]
            while True:
                try:
                    row += [ids, t.decode(ids, skip_special_tokens=False), t.decode(ids, skip_special_tokens=True)]
                    break
                except BaseException:  # its Strip panics on tokens shorter than what it strips
                    row, ids = row[:5], [i for i in ids if len(t.id_to_token(i) or "") > 2]
            rows.append(json.dumps(row, ensure_ascii=False, separators=(",", ":")))
        open(os.path.join(OUT, name + ".json"), "w").write(text + "\n")
        open(os.path.join(OUT, name + ".cases.json"), "w").write("[\n" + ",\n".join(rows) + "\n]\n")


main()
