# SPDX-License-Identifier: Apache-2.0
"""Random small tokenizers of every kind that Hugging Face's `tokenizers` can load, as the text of a tokenizer.json.
tools/judge_tokenizers.py compares them as they come, tools/make_tokenizer_vectors.py keeps a few."""
import base64
import json
import random
import struct

TEXT = """It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.
However little known the feelings or views of such a man may be on his first entering a neighbourhood, this truth is so
well fixed in the minds of the surrounding families, that he is considered the rightful property of some one or other of
their daughters. Don't, isn't, they've, we'll 12 345 6789 + 10 = 22; naïve café Straße ÜBER e\u0301te\u0301 漢字かな カタカナ 한국어
русский язык ελληνικά हिन्दी ไทย العربية 👍👍 "quoted" (brackets) [MASK] a_b-c x/y ﬁne ﬀ ½ ① Ⅷ İstanbul ſ""".split("\n")
RULES = {"ﬁ": "fi", "ﬀ": "ff", "①": "1", "½": "1/2", "\u3000": " ", "\u00a0": " ", "\t": " ", "\n": " ", "é": "e\u0301", "e\u0301": "é",
         "\u200b": "", "ſ": "s", "A": "a", "B": "b", "漢": "han", "\r\n": "\n", "…": "...", "\ufeff": "", "\u0600a": "x", "Å": "Å", "か": "ka"}


def charsmap(rules):
    """SentencePiece's form: a double array trie (Darts' units) and a pool of texts."""
    pool, at = b"", {}
    for k in sorted(rules):
        at[k.encode()] = len(pool)
        pool += rules[k].encode() + b"\0"
    units, used = {0: 0}, {0}

    def place(node, prefix, ks):
        labels = sorted({k[len(prefix)] if len(k) > len(prefix) else 0 for k in ks})
        base = 1
        while any((base ^ x) in used for x in labels) or base ^ node >= 1 << 21:
            base += 1
        used.update(base ^ x for x in labels)
        offset = base ^ node
        units[node] = units.get(node, 0) | offset << 10 | (1 << 8 if labels[0] == 0 else 0)
        for x in labels:
            if x == 0:
                units[base] = 1 << 31 | at[prefix]
            else:
                units[base ^ x] = x
        for x in labels:
            if x:
                p = prefix + bytes([x])
                place(base ^ x, p, [k for k in ks if k.startswith(p)])

    place(0, b"", list(at))
    n = (max(units) | 255) + 1
    blob = b"".join(struct.pack("<I", units.get(i, 0)) for i in range(n))
    return base64.b64encode(struct.pack("<I", len(blob)) + blob + pool).decode()


def maybe(rng, p=0.5):
    return rng.random() < p


def normalizer(rng, depth=0):
    def stage(kind):
        z = {"type": kind}
        if kind == "BertNormalizer":
            z.update(clean_text=maybe(rng), handle_chinese_chars=maybe(rng), strip_accents=rng.choice([None, True, False]),
                     lowercase=maybe(rng))
        elif kind == "Strip":
            z.update(strip_left=maybe(rng), strip_right=maybe(rng))
        elif kind == "Replace":
            z.update(pattern=rng.choice([{"String": " "}, {"String": "e"}, {"String": "th"}, {"Regex": " {2,}"}, {"Regex": "[aeiou]+"},
                                         {"Regex": "\\s"}, {"Regex": "(?<=a)"}]), content=rng.choice(["▁", "", "x", " ", "éé"]))
        elif kind == "Prepend":
            z.update(prepend=rng.choice(["▁", " ", "ab"]))
        elif kind == "Precompiled":
            keys = [k for k in RULES if maybe(rng, 0.7)] or ["A"]
            z.update(precompiled_charsmap=charsmap({k: RULES[k] for k in keys}))
        return z

    kinds = ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "StripAccents", "BertNormalizer", "Replace", "Prepend", "Precompiled",
             "Nmt", "ByteLevel"]
    n = rng.choice([0, 0, 1, 1, 1, 2, 3])
    if n == 0:
        return None
    if n == 1 and maybe(rng, 0.7):
        return stage(rng.choice(kinds))
    return {"type": "Sequence", "normalizers": [stage(rng.choice(kinds)) for _ in range(n)]}


BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PATTERNS = [{"String": " "}, {"String": "e"}, {"String": "\n\n"}, {"Regex": GPT2}, {"Regex": r"\p{N}"}, {"Regex": r"\p{N}{1,3}"},
            {"Regex": r"\s+"}, {"Regex": r"[A-Z]"}, {"Regex": r"\w+|[^\w\s]+"}, {"Regex": r"[\p{L}\p{M}]+"}, {"Regex": r"(?=[aeiou])"},
            {"Regex": r"[0-9][0-9][0-9]"}]


def pretokenizer(rng):
    def stage(kind):
        z = {"type": kind}
        if kind == "ByteLevel":
            z.update(add_prefix_space=maybe(rng), trim_offsets=maybe(rng), use_regex=maybe(rng))
        elif kind == "Metaspace":
            z.update(replacement=rng.choice("▁▁▁_"), prepend_scheme=rng.choice(["always", "first", "never"]), split=maybe(rng, 0.7))
        elif kind == "Punctuation":
            z.update(behavior=rng.choice(BEHAVIORS))
        elif kind == "CharDelimiterSplit":
            z.update(delimiter=rng.choice(" e漢▁"))
        elif kind == "Digits":
            z.update(individual_digits=maybe(rng))
        elif kind == "Split":
            z.update(pattern=rng.choice(PATTERNS), behavior=rng.choice(BEHAVIORS), invert=maybe(rng, 0.3))
        elif kind == "FixedLength":
            z.update(length=rng.randrange(1, 8))
        return z

    kinds = ["ByteLevel", "Metaspace", "Whitespace", "WhitespaceSplit", "BertPreTokenizer", "Punctuation", "CharDelimiterSplit", "Digits",
             "UnicodeScripts", "Split", "FixedLength", "Metaspace"]
    n = rng.choice([0, 1, 1, 1, 2, 2, 3])
    if n == 0:
        return None
    if n == 1 and maybe(rng, 0.8):
        return stage(rng.choice(kinds))
    return {"type": "Sequence", "pretokenizers": [stage(rng.choice(kinds)) for _ in range(n)]}


def decoder(rng):
    def stage(kind):
        z = {"type": kind}
        if kind == "ByteLevel":
            z.update(add_prefix_space=True, trim_offsets=True, use_regex=True)
        elif kind == "Metaspace":
            z.update(replacement="▁", prepend_scheme=rng.choice(["always", "first", "never"]), split=True)
        elif kind == "WordPiece":
            z.update(prefix=rng.choice(["##", "e", ""]), cleanup=maybe(rng))
        elif kind == "BPEDecoder":
            z.update(suffix=rng.choice(["</w>", "e", "▁"]))
        elif kind == "CTC":
            z.update(pad_token=rng.choice(["<pad>", "e", "th"]), word_delimiter_token=rng.choice(["|", "▁", "a"]), cleanup=maybe(rng))
        elif kind == "Replace":
            z.update(pattern=rng.choice([{"String": "▁"}, {"String": "th"}, {"String": "▁▁"}, {"String": "aba"}, {"Regex": "[aeiou]+"},
                                         {"Regex": "\\s+"}]), content=rng.choice([" ", "", "þ", "xx"]))
        elif kind == "Strip":
            z.update(content=rng.choice(" e▁"), start=rng.randrange(3), stop=0)
        return z

    kinds = ["ByteLevel", "Metaspace", "WordPiece", "BPEDecoder", "CTC", "ByteFallback", "Fuse", "Strip", "Replace"]
    n = rng.choice([0, 1, 1, 1, 2, 3, 4])
    if n == 0:
        return None
    if n == 1:
        return stage(rng.choice(kinds))
    return {"type": "Sequence", "decoders": [stage(rng.choice(kinds)) for _ in range(n)]}


def pretokenized(norm, pre):
    """Words to take pieces from: what the stages make of the text, as far as they work alone."""
    from tokenizers import Tokenizer, models
    t = Tokenizer(models.WordLevel({"x": 0}, "x"))
    j = json.loads(t.to_str())
    j.update(normalizer=norm, pre_tokenizer=pre)
    t = Tokenizer.from_str(json.dumps(j))
    words = []
    for line in TEXT:
        s = t.normalizer.normalize_str(line) if t.normalizer else line
        words += [w for w, _ in t.pre_tokenizer.pre_tokenize_str(s)] if t.pre_tokenizer else [s]
    return words


def pieces(rng, words, n, longest=6):
    out = {}
    for _ in range(n):
        w = rng.choice(words)
        at = rng.randrange(len(w))
        out.setdefault(w[at:at + rng.randrange(1, longest)])
    return list(out)


BYTES = [f"<0x{b:02X}>" for b in range(256)]


def bpe(rng, words):
    prefix, suffix = rng.choice([None, None, None, "##"]), rng.choice([None, None, None, "</w>"])
    letters = sorted({c for w in words for c in w if maybe(rng, 0.97)})
    vocab = dict.fromkeys(["<unk>"] + letters)
    if prefix:
        vocab.update(dict.fromkeys(prefix + c for c in letters))
    if suffix:
        vocab.update(dict.fromkeys(c + suffix for c in letters))
        vocab.update(dict.fromkeys((prefix or "") + c + suffix for c in letters))
    merges = []
    for _ in range(rng.choice([20, 80, 200])):
        w = rng.choice(words)
        parts = [(prefix or "" if i else "") + c for i, c in enumerate(w)]
        if suffix:
            parts[-1] += suffix
        for _ in range(rng.randrange(1, 6)):  # as a merge of the word so far
            if len(parts) < 2:
                break
            i = rng.randrange(len(parts) - 1)
            a, b = parts[i], parts[i + 1]
            if a not in vocab or b not in vocab:
                break
            new = a + b[len(prefix or ""):]
            vocab.setdefault(new)
            if [a, b] not in merges:
                merges.append([a, b])
            parts[i:i + 2] = [new]
    fallback = maybe(rng, 0.4)
    if fallback:
        vocab.update(dict.fromkeys(BYTES if maybe(rng, 0.7) else BYTES[:200]))
    for p in pieces(rng, words, 10):
        vocab.setdefault(p)
    if all(" " not in a + b for a, b in merges) and maybe(rng):
        merges = [a + " " + b for a, b in merges]
    return {"type": "BPE", "dropout": None, "unk_token": rng.choice([None, "<unk>", "<unk>"]), "continuing_subword_prefix": prefix,
            "end_of_word_suffix": suffix, "fuse_unk": maybe(rng), "byte_fallback": fallback, "ignore_merges": maybe(rng, 0.3),
            "vocab": {p: i for i, p in enumerate(vocab)}, "merges": merges}


def unigram(rng, words):
    few = maybe(rng, 0.3)  # few scores: many ties
    score = lambda: -float(rng.randrange(1, 6)) if few else -rng.random() * 12
    vocab = [["<unk>", 0.0]] + [[p, score()] for p in pieces(rng, words, rng.choice([60, 200, 600]), 8)]
    vocab += [[c, score()] for c in sorted({c for w in words for c in w if maybe(rng, 0.8)})]
    fallback = maybe(rng, 0.4)
    if fallback:
        vocab += [[b, 0.0] for b in (BYTES if maybe(rng, 0.7) else BYTES[:200])]
    return {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": fallback}


def wordpiece(rng, words):
    prefix = rng.choice(["##", "##", "", "▁"])
    ps = pieces(rng, words, rng.choice([60, 300]), 8)
    letters = sorted({c for w in words for c in w if maybe(rng, 0.9)})
    vocab = dict.fromkeys(["[UNK]", "[CLS]", "[SEP]"] + ps + [prefix + p for p in ps] + letters + [prefix + c for c in letters])
    return {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": prefix,
            "max_input_chars_per_word": rng.choice([100, 100, 4]), "vocab": {p: i for i, p in enumerate(vocab)}}


def wordlevel(rng, words):
    vocab = dict.fromkeys(["<unk>"] + [w for w in words if maybe(rng, 0.8)])
    return {"type": "WordLevel", "unk_token": "<unk>", "vocab": {p: i for i, p in enumerate(vocab)}}


def added(rng):
    out = []
    for content in ["<s>", "</s>", "<|end|>", "[MASK]", "Norm", "the", "a b", " x", "fam", "famil", "ß", "É", "\n\n", "▁▁", "e\u0301", "<unk>"]:
        if maybe(rng, 0.4):
            special = maybe(rng)
            out.append({"id": 0, "content": content, "single_word": maybe(rng, 0.3), "lstrip": maybe(rng, 0.3), "rstrip": maybe(rng, 0.3),
                        "normalized": maybe(rng, 0.5), "special": special})
    return out


def post(rng, vocab_size):
    ids = lambda: rng.randrange(vocab_size)
    kind = rng.randrange(6)
    if kind == 0:
        return {"type": rng.choice(["BertProcessing"]), "sep": ["s", ids()], "cls": ["c", ids()]}
    if kind == 1:
        return {"type": "RobertaProcessing", "sep": ["s", ids()], "cls": ["c", ids()], "trim_offsets": maybe(rng), "add_prefix_space": maybe(rng)}
    if kind == 2:
        two = [{"SpecialToken": {"id": "c", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "s", "type_id": 0}}]
        t = {"type": "TemplateProcessing", "single": two, "pair": two + [{"Sequence": {"id": "B", "type_id": 1}}],
             "special_tokens": {"c": {"id": "c", "ids": [ids(), ids()], "tokens": ["c", "d"]}, "s": {"id": "s", "ids": [ids()], "tokens": ["s"]}}}
        level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
        bert = {"type": "BertProcessing", "sep": ["s", ids()], "cls": ["c", ids()]}
        return rng.choice([t, {"type": "Sequence", "processors": [level, t]}, {"type": "Sequence", "processors": [bert, t]}])
    if kind == 3:
        return {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return None


def make(rng):
    """The text of a tokenizer.json that the library loads."""
    from tokenizers import Tokenizer
    while True:
        norm, pre = normalizer(rng), pretokenizer(rng)
        try:
            words = [w for w in pretokenized(norm, pre) if w]
            if not words:
                continue
            j = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added(rng), "normalizer": norm, "pre_tokenizer": pre,
                 "post_processor": None, "decoder": decoder(rng), "model": rng.choice([bpe, bpe, unigram, unigram, wordpiece, wordlevel])(rng, words)}
            j["post_processor"] = post(rng, len(j["model"]["vocab"]))
            text = json.dumps(j, ensure_ascii=False, separators=(",", ":"))
            t = Tokenizer.from_str(text)
            shown = [t.normalizer.normalize_str(a["content"]) if t.normalizer else a["content"] for a in j["added_tokens"] if a["normalized"]]
            if len(set(shown)) == len(shown) and all(shown):  # else it panics on some texts, or chooses by chance
                return text
        except BaseException as e:  # a panic of the library is one
            if isinstance(e, KeyboardInterrupt):
                raise
